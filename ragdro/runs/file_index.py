"""Which JSON file of `RUN/state/` has what: a list that only grows, so that a save writes what is new alone.

files.jsonl: a line for each change, `[key, file name, SHA-256 of the file]`, or `[key]` where it has gone. A
state says how many bytes of the list are its own, and their SHA-256; what a kill left behind them belongs to
no state, and the next save overwrites it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TypeAlias

from ragdro.access import naming

INDEX = "files.jsonl"
Files: TypeAlias = dict[str, list[str]]
"""Key → [file name, SHA-256]."""


class DamagedError(Exception):
    """Something saved that cannot be resumed from; the message names its file."""


class FileIndex:
    """The list as far as a state knows it: `size` bytes of the one in `folder`, with their `digest`.

    Raises `DamagedError` where these are not there.
    """

    def __init__(self, folder: Path, size: int, digest: str) -> None:
        self._path = folder / INDEX
        self._held = hashlib.sha256(_beginning(folder, size, digest))
        self.size = size

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes of the state."""
        return self._held.hexdigest()

    def add(self, changes: dict[str, list[str] | None]) -> bytes:
        """The state goes on with these: what `append` has to bring to disk."""
        lines = (json.dumps([key, *(file or ())]) + "\n" for key, file in changes.items())
        added = "".join(lines).encode()
        self._held.update(added)
        self.size += len(added)
        return added

    def append(self, place: int, added: bytes) -> None:
        """Write at `place` bytes, where an earlier state's list ends, and flush it to disk."""
        mode = "r+b" if self._path.exists() else "xb"
        with naming(self._path), self._path.open(mode) as file:
            file.truncate(place)
            file.seek(place)
            file.write(added)
            file.flush()
            os.fsync(file.fileno())


def read_files(folder: Path, size: int, digest: str) -> Files:
    """What a state has, by key. Raises `DamagedError`."""
    files: Files = {}
    try:
        for line in _beginning(folder, size, digest).splitlines():
            key, *file = json.loads(line)
            if file:
                name, file_digest = file
                files[key] = [name, file_digest]
            else:
                files.pop(key, None)
    except (ValueError, TypeError) as error:
        raise DamagedError(f"{folder / INDEX}: not a list of files") from error
    return files


def _beginning(folder: Path, size: int, digest: str) -> bytes:
    path, content = folder / INDEX, b""
    if size:
        if not path.is_file():
            raise DamagedError(f"{path}: missing")
        with path.open("rb") as file:
            content = file.read(size)
    if len(content) != size or hashlib.sha256(content).hexdigest() != digest:
        raise DamagedError(f"{path}: its checksum does not match")
    return content
