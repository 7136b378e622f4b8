"""Saved states of a run, in `RUN/state/`: what a killed run resumes from.

000012.json              where the run stands, which files that needs, a checksum of each and its own
000012-selector/         the trained parameters of a model and its optimiser's moments, a file a process
000009-shard-0.json      the weighted permutations of one shard of an E-step, which stay when it is done

A state names an earlier state's file where nothing has changed since, and a checkpoint's files where a model
is as these have it, so that it is written once. Tensors are written while training goes on; a state comes to
disk when its files are there, so what a kill or a full disk leaves is the state before, whole, and some files
that no state names. The last two states are kept; of a finished run, which can be extended, the last one
without the models, which are in its last checkpoint. Only JSON and safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import torch
import torch.distributed as dist

from ragdro.errors import TrainingError
from ragdro.files import atomic_file, sync
from ragdro.parallel.world import broadcast_from_rank0, visible, world_size
from ragdro.runs.status import CHECKPOINTS, STATE, role_folder
from ragdro.runs.tensors import Group, Kinds, begin_writing, kinds, read_into, written
from ragdro.training.parts import LoopState

_KEPT = 2
_PLACE = re.compile(rf"{STATE}/\d{{6}}-[\w-]+/[\w.-]+|{CHECKPOINTS}/iteration-(\d+)/[\w-]+/[\w.-]+")
"""Where a file with tensors may be, below the run folder."""


@dataclass(slots=True)
class State(LoopState):
    """Where a run stands: how far its loop is, and what is on disk.

    `metrics_bytes`, `records`, `seconds`: how far metrics.jsonl goes, and the time spent. `files`: key →
    [file name, SHA-256]. `tensors`: key → the files that they are in, below the run folder, with the SHA-256
    of each. `questions`: a hash of all questions and candidates. `checkpoint`: of a finished run, the
    iteration whose checkpoint has the models.
    """

    serial: int = 0
    metrics_bytes: int = 0
    records: int = 0
    seconds: float = 0.0
    questions: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    tensors: dict[str, dict[str, str]] = field(default_factory=dict)
    checkpoint: int | None = None

    def iteration_of(self, key: str) -> int | None:
        """The iteration in whose checkpoint tensors are; None where they are in none."""
        return next(iter(_iterations(self.tensors.get(key, {}))), None)


class StateStore:
    """Reads and writes the states in `RUN/state/`.

    Of several processes one `writes` the states, all write tensors, in the `group` that they save in.
    """

    def __init__(self, run: Path, *, writes: bool = True, group: Group = None) -> None:
        self.writes = writes
        self._run, self._group = run, group
        self.folder = run / STATE
        self.folder.mkdir(exist_ok=True)
        self._worker = ThreadPoolExecutor(1, "save")
        self._begun: list[tuple[Path, Future[Any], dict[str, str]]] = []
        self._committing: Future[None] | None = None

    def newest(self, warn: Callable[[str], None]) -> State | None:
        """The newest state that is whole; None where there is none at all.

        A damaged one is named to `warn` and the one before it is taken. Raises `TrainingError` where all
        are damaged.
        """
        states = self._states()
        for path in states:
            try:
                state = self._read(path)
            except _DamagedError as damage:
                warn(f"{damage}; resuming from the state before it")
                continue
            for newer in self._states():
                if newer.name > path.name:
                    newer.unlink()
            return state
        if states:
            raise TrainingError(f"{self.folder}: no saved state is whole; start again with --overwrite")
        return None

    def put_tensors(self, state: State, parts: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Begin to write tensors for the next `commit`, by key and name; they may change at once. Raises
        OSError where the disk refused what was begun before."""
        self.settle()
        for folder, begun, _ in self._begun:
            written(folder, begun)
        folder = self.folder / f"{state.serial + 1:06d}-{next(iter(parts))}"
        tensors = {f"{key}:{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
        files: dict[str, str] = {}
        self._begun.append((folder, begin_writing(folder, tensors, self._group), files))
        state.tensors.update(dict.fromkeys(parts, files))

    def put_json(self, state: State, key: str, value: Any) -> None:
        """Write a JSON value for the next `commit` under `key`."""
        self.settle()
        path = self.folder / f"{state.serial + 1:06d}-{key}.json"
        state.files[key] = [path.name, ""]
        if not self.writes:
            return
        with atomic_file(path, "w") as file:
            file.write(json.dumps(value))  # json.dump goes a number at a time
        state.files[key] = [path.name, _file_hash(path)]

    def put_model(self, state: State, role: str, iteration: int) -> None:
        """What the role's checkpoint of that iteration holds is part of the next `commit`."""

        def files() -> dict[str, str]:
            paths = sorted(role_folder(self._run, iteration, role).glob("*.safetensors"))
            return {p.relative_to(self._run).as_posix(): _file_hash(p) for p in paths}

        state.tensors[role] = broadcast_from_rank0(files)

    def kinds(self, state: State, key: str) -> Kinds:
        """The shape and dtype of each of the tensors under a key, by name."""
        found = ((folder, prefix) for folder, prefix in self._folders(state, key))
        return {
            name.removeprefix(prefix): kind
            for folder, prefix in found
            for name, kind in kinds(folder).items()
            if name.startswith(prefix)
        }

    def read_into(self, state: State, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Fill the tensors from what `put_tensors` or `put_model` has under a key; each process reads what it
        has a part of."""
        for folder, prefix in self._folders(state, key):
            there = kinds(folder)
            read_into(folder, {prefix + n: t for n, t in tensors.items() if prefix + n in there})

    def tensors(self, state: State, key: str) -> dict[str, torch.Tensor]:
        """All that is under a key, whole, on the CPU."""
        whole = {n: torch.empty(size, dtype=kind) for n, (size, kind) in self.kinds(state, key).items()}
        self.read_into(state, key, whole)
        return whole

    def _folders(self, state: State, key: str) -> Iterator[tuple[Path, str]]:
        """The folders that tensors are in, and what their names begin with there."""
        for name in state.tensors[key]:
            visible(self._run / name)
        for folder in sorted({PurePosixPath(name).parent for name in state.tensors[key]}):
            yield self._run / folder, f"{key}:" if folder.parts[0] == STATE else ""

    def needed_iterations(self) -> set[int]:
        """The iterations whose checkpoints are needed by the states that are kept."""
        needed: set[int] = set()
        for path in self._states()[:_KEPT]:
            with suppress(_DamagedError):
                needed |= {i for files in _load(path)["tensors"].values() for i in _iterations(files)}
        return needed

    def json(self, state: State, key: str) -> Any:
        """What `put_json` wrote."""
        return json.loads(visible(self.folder / state.files[key][0]).read_text(encoding="utf-8"))

    def commit(self, state: State) -> None:
        """Make `state`, as it is now, the newest, and remove what the last two do not need. Where tensors are
        still being written it happens when they are, while training goes on. Raises OSError where the disk
        refused the state before."""
        self.settle()
        state.serial += 1
        if not self._begun:
            self._write(asdict(state))
            return
        begun, self._begun = self._begun, []
        keys = [[key for key, f in state.tensors.items() if f is files] for _, _, files in begun]
        values = asdict(state)

        def finish() -> None:
            for (folder, writing, files), of in zip(begun, keys, strict=True):
                files |= self._hashes(folder, written(folder, writing))
                values["tensors"] |= {key: dict(files) for key in of}
            self._write(values)

        self._committing = self._worker.submit(finish)

    def settle(self) -> None:
        """Wait until the state that was committed last is on disk; a wait that a signal ends can be taken up
        again. Raises OSError where the disk refuses."""
        committing = self._committing
        if committing is not None:
            wait([committing])
            self._committing = None
            committing.result()

    def _hashes(self, folder: Path, own: list[Path]) -> dict[str, str]:
        """The checksum of every process's files of a folder, each read by the one that wrote it."""
        sync(folder)
        hashes = {p.relative_to(self._run).as_posix(): _file_hash(p) for p in own}
        if self._group is None:
            return hashes
        parts: list[dict[str, str]] = [{}] * world_size()
        dist.all_gather_object(parts, hashes, group=self._group)
        return {name: digest for part in parts for name, digest in part.items()}

    def _write(self, values: dict[str, Any]) -> None:
        if self.writes:
            values["sha256"] = _value_hash(values)
            with atomic_file(self._path(values["serial"]), "w") as file:
                file.write(json.dumps(values))
            self._prune()

    def keep_last(self) -> None:
        """The run is done: no other state is needed any more."""
        if self.writes:
            self._prune(1)

    def _prune(self, kept: int = _KEPT) -> None:
        needed: set[str] = set()
        for path in self._states()[:kept]:
            with suppress(_DamagedError):
                values = _load(path)
                needed |= {path.name, *(name for name, _ in values["files"].values())}
                needed |= {Path(name).parent.name for files in values["tensors"].values() for name in files}
        for path in self.folder.iterdir():
            if path.name not in needed and path.is_dir():
                shutil.rmtree(path)
            elif path.name not in needed:
                path.unlink()

    def _path(self, serial: int) -> Path:
        return self.folder / f"{serial:06d}.json"

    def _states(self) -> list[Path]:
        """Newest first."""
        return sorted((p for p in self.folder.glob("*.json") if p.stem.isdigit()), reverse=True)

    def _read(self, path: Path) -> State:
        values = _load(path)
        state = State(**{**values, "scores": [(i, score) for i, score in values["scores"]]})
        needed = [
            (f"{STATE}/{name}", digest, Path(name).name == name) for name, digest in state.files.values()
        ]
        needed += [
            (name, digest, _PLACE.fullmatch(name) is not None and ".." not in name)
            for files in state.tensors.values()
            for name, digest in files.items()
        ]
        for name, digest, allowed in needed:
            file = self._run / name
            if not allowed or not file.is_file():
                raise _DamagedError(f"{file}: missing, and {path.name} needs it")
            if _file_hash(file) != digest:
                raise _DamagedError(f"{file}: its checksum does not match")
        return state


class _DamagedError(Exception):
    """A state that cannot be resumed from; the message names its file."""


def _load(path: Path) -> dict[str, Any]:
    """The values of a state, its own checksum verified and taken off."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksum = values.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _DamagedError(f"{path}: not a whole state") from error
    if _value_hash(values) != checksum or set(values) != {f.name for f in fields(State)}:
        raise _DamagedError(f"{path}: its checksum does not match")
    return values


def _iterations(files: Mapping[str, str]) -> set[int]:
    """The iterations in whose checkpoints these files are."""
    found = (_PLACE.fullmatch(name) for name in files)
    return {int(match[1]) for match in found if match is not None and match[1]}


def _value_hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
