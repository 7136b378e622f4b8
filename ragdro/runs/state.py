"""Saved states of a run, in `RUN/state/`: what a killed run resumes from.

000012.json                   where the run stands, which files that needs, a checksum of each and its own
000012-selector.safetensors   the trained parameters of a model, 000012-optimiser.safetensors its optimiser's
000009-shard-0.json           the weighted permutations of one shard of an E-step, which stay when it is done

A state names an earlier state's file where nothing has changed since, and a checkpoint's files where a model
is as these have it, so that it is written once. Its files are on disk before it is, so what a kill or a full
disk leaves is the state before, whole, and some files that no state names. The last two states are kept; of a
finished run, which can be extended, the last one without the models, which are in its last checkpoint. Only
JSON and safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ragdro.errors import TrainingError
from ragdro.files import atomic_file, atomic_path
from ragdro.parallel.sharding import gather, part_like
from ragdro.runs.status import STATE, role_folder
from ragdro.training.parts import LoopState

_KEPT = 2
_WEIGHTS = "*.safetensors"


@dataclass(slots=True)
class State(LoopState):
    """Where a run stands: how far its loop is, and what is on disk.

    `metrics_bytes`, `records`, `seconds`: how far metrics.jsonl goes, and the time spent. `files`: key →
    [file name, SHA-256]. `models`: role → the iteration whose checkpoint has its trained parameters (but for
    those that are in `files`), with the SHA-256 of each file there. `questions`: a hash of all questions and
    candidates. `checkpoint`: of a finished run, the iteration whose checkpoint has the models.
    """

    serial: int = 0
    metrics_bytes: int = 0
    records: int = 0
    seconds: float = 0.0
    questions: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)
    checkpoint: int | None = None


class StateStore:
    """Reads and writes the states in `RUN/state/`.

    Of several processes one `writes`; the others only note what was written.
    """

    def __init__(self, run: Path, *, writes: bool = True) -> None:
        self.writes = writes
        self._run = run
        self.folder = run / STATE
        self.folder.mkdir(exist_ok=True)

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

    def put_tensors(self, state: State, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors for the next `commit` under `key`. Raises OSError where the disk refuses."""
        path = self.folder / f"{state.serial + 1:06d}-{key}.safetensors"
        state.files[key] = [path.name, ""]
        if not self.writes:
            return
        try:
            with atomic_path(path) as temporary:
                save_file({name: t.detach().contiguous() for name, t in tensors.items()}, temporary)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error
        state.files[key] = [path.name, _file_hash(path)]

    def put_json(self, state: State, key: str, value: Any) -> None:
        """Write a JSON value for the next `commit` under `key`."""
        path = self.folder / f"{state.serial + 1:06d}-{key}.json"
        state.files[key] = [path.name, ""]
        if not self.writes:
            return
        with atomic_file(path, "w") as file:
            json.dump(value, file)
        state.files[key] = [path.name, _file_hash(path)]

    def tensors(self, state: State, key: str) -> dict[str, torch.Tensor]:
        """What `put_tensors` wrote."""
        return load_file(self.folder / state.files[key][0])

    def put_model(self, state: State, role: str, iteration: int) -> None:
        """What the role's checkpoint of that iteration holds is part of the next `commit`."""
        folder = role_folder(self._run, iteration, role)
        files = {p.name: _file_hash(p) for p in sorted(folder.glob(_WEIGHTS))} if self.writes else {}
        state.models[role] = (iteration, files)

    def model(self, state: State, role: str) -> dict[str, torch.Tensor]:
        """What the files hold that `put_model` named."""
        iteration, files = state.models[role]
        folder = role_folder(self._run, iteration, role)
        return {name: tensor for file in files for name, tensor in load_file(folder / file).items()}

    def needed_iterations(self) -> set[int]:
        """The iterations whose checkpoints are needed by the states that are kept."""
        needed: set[int] = set()
        for path in self._states()[:_KEPT]:
            with suppress(_DamagedError):
                needed |= {iteration for iteration, _ in _load(path)["models"].values()}
        return needed

    def json(self, state: State, key: str) -> Any:
        """What `put_json` wrote."""
        return json.loads((self.folder / state.files[key][0]).read_text(encoding="utf-8"))

    def commit(self, state: State) -> None:
        """Make `state` the newest and remove what the last two do not need."""
        state.serial += 1
        if not self.writes:
            return
        values = asdict(state)
        values["sha256"] = _value_hash(values)
        with atomic_file(self._path(state.serial), "w") as file:
            json.dump(values, file)
        self._prune()

    def keep_last(self) -> None:
        """The run is done: no other state is needed any more."""
        if self.writes:
            self._prune(1)

    def _prune(self, kept: int = _KEPT) -> None:
        needed: set[str] = set()
        for path in self._states()[:kept]:
            try:
                files = _load(path)["files"].values()
            except _DamagedError:
                continue
            needed |= {path.name, *(name for name, _ in files)}
        for path in self.folder.iterdir():
            if path.name not in needed:
                path.unlink()

    def _path(self, serial: int) -> Path:
        return self.folder / f"{serial:06d}.json"

    def _states(self) -> list[Path]:
        """Newest first."""
        return sorted((p for p in self.folder.glob("*.json") if p.stem.isdigit()), reverse=True)

    def _read(self, path: Path) -> State:
        values = _load(path)
        models = {role: (int(iteration), files) for role, (iteration, files) in values["models"].items()}
        scores = [(i, score) for i, score in values["scores"]]
        state = State(**{**values, "scores": scores, "models": models})
        needed = [(self.folder, name, digest) for name, digest in state.files.values()]
        for role, (iteration, files) in models.items():
            folder = role_folder(self._run, iteration, Path(role).name)
            needed += [(folder, name, digest) for name, digest in files.items()]
        for folder, name, digest in needed:
            file = folder / name
            if Path(name).name != name or not file.is_file():
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


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's moments and step counts, as `index.name` → tensor.

    A count that is an int becomes a tensor of one; what parameters share (the code book of 8-bit states) is
    written for each, because the file format has no sharing.
    """
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for i, moments in optimiser.state_dict()["state"].items():
        for name, value in moments.items():
            tensor = torch.tensor(value) if isinstance(value, int) else gather(value)
            tensors[f"{i}.{name}"] = tensor.clone() if tensor.data_ptr() in seen else tensor
            seen.add(tensor.data_ptr())
    return tensors


def restore_optimiser(optimiser: torch.optim.Optimizer, saved: Mapping[str, torch.Tensor]) -> None:
    """The inverse of `optimiser_tensors`, into a fresh optimiser over the same parameters."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    states: dict[int, dict[str, torch.Tensor | int]] = {}
    for key, value in saved.items():
        index, name = key.split(".")
        count = value.ndim == 0 and value.dtype == torch.int64
        states.setdefault(int(index), {})[name] = (
            int(value) if count else part_like(value, parameters[int(index)])
        )
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})


def _value_hash(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
