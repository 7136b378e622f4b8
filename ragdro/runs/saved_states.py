"""The states in `RUN/state/` as files: which there are, what one says, and what no kept one needs.

In: the folder, a `State` or values that JSON can hold. Out: `000012.json` with a checksum of its own, and
what one that is whole says.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ragdro.files import atomic_file
from ragdro.runs.file_index import INDEX, DamagedError, Files, read_files
from ragdro.runs.status import CHECKPOINTS, STATE
from ragdro.training.parts import LoopState

KEPT = 2
"""How many states a run that is not done keeps."""
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
        return next(iter(iterations_of(self.tensors.get(key, {}))), None)


def state_path(folder: Path, serial: int) -> Path:
    """The file of a state."""
    return folder / f"{serial:06d}.json"


def state_paths(folder: Path) -> list[Path]:
    """The states that there are, newest first."""
    return sorted((p for p in folder.glob("*.json") if p.stem.isdigit()), reverse=True)


def save_values(folder: Path, values: dict[str, Any]) -> None:
    """Bring a state to disk with its checksum."""
    with atomic_file(state_path(folder, values["serial"]), "w") as file:
        file.write(json.dumps({**values, "sha256": value_hash(values)}))


def load_values(path: Path) -> dict[str, Any]:
    """The values of a state, its own checksum verified and taken off. Raises `DamagedError`."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        checksum = values.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DamagedError(f"{path}: not a whole state") from error
    if value_hash(values) != checksum or not {"tensors", "files_bytes", "files_sha256"} <= set(values):
        raise DamagedError(f"{path}: its checksum does not match")
    return values


def read_state(run: Path, path: Path) -> tuple[State, dict[Path, str]]:
    """A state of a run, and the files that it needs, which are there, with the checksum that each has to
    have. Raises `DamagedError`."""
    values = load_values(path)
    if set(values) | {"files"} != {f.name for f in fields(State)}:
        raise DamagedError(f"{path}: its checksum does not match")
    files = read_files(path.parent, values["files_bytes"], values["files_sha256"])
    state = State(files=files, **{**values, "scores": [(i, score) for i, score in values["scores"]]})
    needed = [(f"{STATE}/{name}", digest, Path(name).name == name) for name, digest in files.values()]
    needed += [
        (name, digest, _PLACE.fullmatch(name) is not None and ".." not in name)
        for tensors in state.tensors.values()
        for name, digest in tensors.items()
    ]
    for name, _, allowed in needed:
        if not allowed or not (run / name).is_file():
            raise DamagedError(f"{run / name}: missing, and {path.name} needs it")
    return state, {run / name: digest for name, digest, _ in needed}


def iterations_of(files: Mapping[str, str]) -> set[int]:
    """The iterations in whose checkpoints these files are."""
    places = (_PLACE.fullmatch(name) for name in files)
    return {int(match[1]) for match in places if match is not None and match[1]}


def value_hash(values: Mapping[str, Any]) -> str:
    """The checksum of a state's values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Last:
    """Of the newest state: the folders of tensors it needs, and the files that the one before it needed and
    it does not."""

    folders: frozenset[str]
    dropped: Sequence[str]


class Leftovers:
    """Removes what the last two states do not need: in a session's first save by looking at everything, then
    by what has changed, so that a save takes no longer where there are many files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folders: set[str] = set()
        self._last: _Last | None = None

    def written(self, folder: Path) -> None:
        """Tensors are written into a folder of their own."""
        self._folders.add(folder.name)

    def remove(self, values: Mapping[str, Any], dropped: Sequence[str]) -> None:
        """A state is on disk; `dropped` names the files that the one before it needed and it does not."""
        folders = frozenset(_folders(values))
        if self._last is None:
            self.remove_all(KEPT)
        else:
            state_path(self._folder, values["serial"] - KEPT).unlink(missing_ok=True)
            for name in self._last.dropped:
                (self._folder / name).unlink(missing_ok=True)
            outdated = self._folders - folders - self._last.folders
            for name in outdated:
                if (self._folder / name).is_dir():
                    shutil.rmtree(self._folder / name)
            self._folders -= outdated
        self._last = _Last(folders, dropped)

    def remove_all(self, kept: int) -> None:
        """Whatever the last `kept` states do not need."""
        needed = {INDEX}
        for path in state_paths(self._folder)[:kept]:
            with suppress(DamagedError):
                values = load_values(path)
                files = read_files(self._folder, values["files_bytes"], values["files_sha256"])
                needed |= {path.name, *(name for name, _ in files.values()), *_folders(values)}
        for path in self._folder.iterdir():
            if path.name in needed:
                if path.is_dir():
                    self._folders.add(path.name)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _folders(values: Mapping[str, Any]) -> set[str]:
    """The names of the folders that a state's tensors are in."""
    return {Path(name).parent.name for files in values["tensors"].values() for name in files}
