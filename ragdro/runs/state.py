"""Saved states of a run, in `RUN/state/`: what a killed run resumes from.

000012.json              where the run stands, which files that needs, a checksum of each and its own
files.jsonl              which JSON files there are, a list that states have beginnings of (`file_index.py`)
000012-selector/         trained parameters that no checkpoint has, an optimiser's moments; a file a process
000009-shard-0.json      the weighted permutations of one shard of an E-step, which stay when it is done

A state names an earlier state's file where nothing has changed since, and a checkpoint's files where a model
is as these have it, so that it is written once; what a save takes does not depend on how many there were.
Tensors are written while training goes on; a state comes to disk when its files are there, so what a kill or
a full disk leaves is the state before, whole, and some files that no state names. The last two states are
kept; of a finished run, which can be extended, the last one without the models, which are in its last
checkpoint. Only JSON and safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

import torch
import torch.distributed as dist

from ragdro.errors import TrainingError
from ragdro.files import atomic_file, sync
from ragdro.parallel.tensors import Group, SavedTensors, begin_writing, write_alone, written
from ragdro.parallel.world import visible, world_size
from ragdro.runs.file_index import DamagedError, FileIndex, Files, read_files
from ragdro.runs.saved_states import KEPT, Leftovers, load_values, save_values, state_paths
from ragdro.runs.status import CHECKPOINTS, STATE
from ragdro.training.parts import LoopState

Written: TypeAlias = tuple[list[Path], Mapping[str, torch.Tensor]]
"""The files of a model's checkpoint that a state needs, and what it needs of the model that they lack."""
_PLACE = re.compile(rf"{STATE}/\d{{6}}-[\w-]+/[\w.-]+|{CHECKPOINTS}/iteration-(\d+)/[\w-]+/[\w.-]+")
"""Where a file with tensors may be, below the run folder."""


@dataclass(slots=True)
class State(LoopState):
    """Where a run stands: how far its loop is, and what is on disk.

    `metrics_bytes`, `records`, `seconds`: how far metrics.jsonl goes, and the time spent. `files`: key →
    [file name, SHA-256], changed by `StateStore` alone; on disk the first `files_bytes` of files.jsonl, whose
    SHA-256 is `files_sha256`. `tensors`: key → the files that they are in, below the run folder, with the
    SHA-256 of each. `questions`: a hash of all questions and candidates. `checkpoint`: of a finished run, the
    iteration whose checkpoint has the models.
    """

    serial: int = 0
    metrics_bytes: int = 0
    records: int = 0
    seconds: float = 0.0
    questions: str = ""
    files: Files = field(default_factory=dict)
    files_bytes: int = 0
    files_sha256: str = hashlib.sha256().hexdigest()
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
        self._begun: list[tuple[Callable[[], list[Path]], dict[str, str]]] = []
        """For each write: what waits for it and gives this process's files; where their checksums go."""
        self._committing: Future[None] | None = None
        self._index: FileIndex | None = None
        self._changes: dict[str, list[str] | None] = {}
        self._dropped: list[str] = []
        """The JSON files that the next state needs no more."""
        self._leftovers = Leftovers(self.folder)

    def newest(self, warn: Callable[[str], None]) -> State | None:
        """The newest state that is whole; None where there is none at all.

        A damaged one is named to `warn` and the one before it is taken. Raises `TrainingError` where all
        are damaged.
        """
        states = state_paths(self.folder)
        for path in states:
            try:
                state = self._read(path)
            except DamagedError as damage:
                warn(f"{damage}; resuming from the state before it")
                continue
            for newer in state_paths(self.folder):
                if newer.name > path.name:
                    newer.unlink()
            return state
        if states:
            raise TrainingError(f"{self.folder}: no saved state is whole; start again with overwrite=True")
        return None

    def put_tensors(self, state: State, parts: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Begin to write tensors for the next `commit`, by key and name; they may change at once. Raises
        OSError where the disk refused what was begun before."""
        self.wait_for_writes()
        folder = self.folder / f"{state.serial + 1:06d}-{next(iter(parts))}"
        self._leftovers.written(folder)
        tensors = {f"{key}:{name}": tensor for key, part in parts.items() for name, tensor in part.items()}
        begun = begin_writing(folder, tensors, self._group)
        self._add(state, parts, partial(written, folder, begun))

    def put_model(self, state: State, role: str, write: Callable[[], Written]) -> None:
        """Begin to write a model for the next `commit`: the process that writes states calls `write`, in a
        thread of its own and behind what was begun before, and has what the checkpoint lacks beside; that
        must not change meanwhile."""
        folder = self.folder / f"{state.serial + 1:06d}-{role}"

        def write_all() -> list[Path]:
            files, lacking = write()
            if not lacking:
                return files
            self._leftovers.written(folder)
            return [*files, write_alone(folder, {f"{role}:{name}": t for name, t in lacking.items()})]

        begun = self._worker.submit(write_all if self.writes else list)
        self._add(state, [role], begun.result)

    def wait_for_writes(self) -> None:
        """Wait until all that was put is written: no copy of a tensor is held any more. Raises OSError where
        the disk refused."""
        self.settle()
        for wait_for, _ in self._begun:
            wait_for()

    def _add(self, state: State, keys: Iterable[str], wait_for: Callable[[], list[Path]]) -> None:
        """What is being written will be under these keys."""
        files: dict[str, str] = {}
        self._begun.append((wait_for, files))
        state.tensors.update(dict.fromkeys(keys, files))

    def put_json(self, state: State, key: str, value: Any) -> None:
        """Write a JSON value for the next `commit` under `key`."""
        self.settle()
        path = self.folder / f"{state.serial + 1:06d}-{key}.json"
        digest = ""
        if self.writes:
            with atomic_file(path, "w") as file:
                file.write(json.dumps(value))  # json.dump goes a number at a time
            digest = _file_hash(path)
        if key in state.files and state.files[key][0] != path.name:
            self._dropped.append(state.files[key][0])
        state.files[key] = self._changes[key] = [path.name, digest]

    def rename_json(self, state: State, renamed: Callable[[str], str | None]) -> None:
        """Have every JSON value go by the key that `renamed` says of its own; None: it is needed no more."""
        new_keys = {key: renamed(key) for key in state.files}
        moved = {key: state.files.pop(key) for key, new in new_keys.items() if new != key}
        self._changes |= dict.fromkeys(moved)
        for key, file in moved.items():
            new = new_keys[key]
            if new is None:
                self._dropped.append(file[0])
            else:
                state.files[new] = self._changes[new] = file

    def saved(self, state: State, key: str) -> SavedTensors:
        """What `put_tensors` or `put_model` has under a key."""
        for name in state.tensors[key]:
            visible(self._run / name)
        folders = sorted({PurePosixPath(name).parent for name in state.tensors[key]})
        return SavedTensors({self._run / f: f"{key}:" if f.parts[0] == STATE else "" for f in folders})

    def needed_iterations(self) -> set[int]:
        """The iterations whose checkpoints are needed by the states that are kept."""
        needed: set[int] = set()
        for path in state_paths(self.folder)[:KEPT]:
            with suppress(DamagedError):
                needed |= {i for files in load_values(path)["tensors"].values() for i in _iterations(files)}
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
        write = self._list_changes(state)
        values = asdict(replace(state, files={}))  # files are in their list
        del values["files"]
        if not self._begun:
            write(values)
            return
        begun, self._begun = self._begun, []
        keys = [[key for key, f in state.tensors.items() if f is files] for _, files in begun]

        def finish() -> None:
            for (wait_for, files), owner in zip(begun, keys, strict=True):
                files |= self._hashes(wait_for())
                values["tensors"] |= {key: dict(files) for key in owner}
            write(values)

        self._committing = self._worker.submit(finish)

    def settle(self) -> None:
        """Wait until the state that was committed last is on disk; a wait that a signal ends can be taken up
        again. Raises OSError where the disk refuses."""
        committing = self._committing
        if committing is not None:
            wait([committing])
            self._committing = None
            committing.result()

    def _hashes(self, own: list[Path]) -> dict[str, str]:
        """The checksum of every process's files, each read by the one that wrote it."""
        for folder in {path.parent for path in own}:
            sync(folder)
        hashes = {p.relative_to(self._run).as_posix(): _file_hash(p) for p in own}
        if self._group is None:
            return hashes
        parts: list[dict[str, str]] = [{}] * world_size()
        dist.all_gather_object(parts, hashes, group=self._group)
        return {name: digest for part in parts for name, digest in part.items()}

    def _list_changes(self, state: State) -> Callable[[dict[str, Any]], None]:
        """Have the state's list of files go on with what has changed; what brings both to disk."""
        changes, self._changes = self._changes, {}
        dropped, self._dropped = self._dropped, []
        if not self.writes:
            return lambda values: None
        if self._index is None:
            self._index = FileIndex(self.folder, state.files_bytes, state.files_sha256)
        index, place = self._index, state.files_bytes
        added = index.add(changes)
        state.files_bytes, state.files_sha256 = index.size, index.digest

        def write(values: dict[str, Any]) -> None:
            if added:
                index.append(place, added)
            save_values(self.folder, values)
            self._leftovers.remove(values, dropped)

        return write

    def keep_last(self) -> None:
        """The run is done: no other state is needed any more."""
        if self.writes:
            self._leftovers.remove_all(1)

    def _read(self, path: Path) -> State:
        values = load_values(path)
        if set(values) | {"files"} != {f.name for f in fields(State)}:
            raise DamagedError(f"{path}: its checksum does not match")
        files = read_files(self.folder, values["files_bytes"], values["files_sha256"])
        state = State(files=files, **{**values, "scores": [(i, score) for i, score in values["scores"]]})
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
                raise DamagedError(f"{file}: missing, and {path.name} needs it")
            if _file_hash(file) != digest:
                raise DamagedError(f"{file}: its checksum does not match")
        return state


def _iterations(files: Mapping[str, str]) -> set[int]:
    """The iterations in whose checkpoints these files are."""
    places = (_PLACE.fullmatch(name) for name in files)
    return {int(match[1]) for match in places if match is not None and match[1]}


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
