"""The states in `RUN/state/` as files: which there are, what one says, and what no kept one needs.

In: the folder, values that JSON can hold. Out: `000012.json` with a checksum of its own, and the values of
one that is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragdro.files import atomic_file
from ragdro.runs.file_index import INDEX, DamagedError, read_files

KEPT = 2
"""How many states a run that is not done keeps."""


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
