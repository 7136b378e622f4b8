"""Names for content: SHA-256 over files, folders, models and JSON values.

A file that is in a cache folder's memory (`hashes/`, one small file each) is not read again while its path,
size and times are the same. A folder that may not be written remembers nothing new.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragdro.access import refused
from ragdro.errors import DataError
from ragdro.files import atomic_path, is_writable

_SETTLED = 2_000_000_000
"""A file that was written less than so many nanoseconds ago may change again with the same size and time."""


def hash_file(path: Path, cache: Path | None = None) -> str:
    """The file's SHA-256, looked up in the memory of the folder `cache` where there is one; DataError names a
    file that cannot be read."""
    try:
        status = path.stat()
        if time.time_ns() - status.st_mtime_ns < _SETTLED:
            return _hash(path)
        # The time of the last change of its inode too: a copy may have brought the other one along.
        seen = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        return _known_hash(path.resolve(), seen, cache)
    except OSError as error:
        memory = error.filename is not None and Path(error.filename).name != path.name
        place, what = (error.filename, "written") if memory else (path, "read")
        raise DataError(f"cannot be {what}: {refused(error, path)}", path=place) from error


def hash_folder(folder: Path, cache: Path | None = None) -> str:
    """A hash of the names and contents of all files below the folder, wherever the folder lies; `cache` as
    above."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_values([path.relative_to(folder).as_posix(), hash_file(path, cache)] for path in files)


def model_fingerprint(model: str) -> str:
    """A hash of a folder's config, tokenizer and weights, wherever it lies; a hub name is its own."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    deciding = sorted(path for path in files if not _says_nothing(path))
    return hash_values([path.as_posix(), hash_file(folder / path)] for path in deciding)


def _says_nothing(path: Path) -> bool:
    """Whether a model's file is a card, or what a repository keeps."""
    return path.suffix == ".md" or any(part.startswith(".") for part in path.parts)


def hash_values(values: Iterable[Any]) -> str:
    """A hash of a stream of JSON values."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1024)
def _known_hash(path: Path, seen: tuple[int, int, int], cache: Path | None) -> str:
    """The hash of a file as it was when it was `seen` with this size and these times of its last change."""
    if cache is None:
        return _hash(path)
    memory = cache / "hashes" / f"{hash_values([str(path)])[:32]}.json"
    key = [str(path), *seen]
    known = _remembered(memory)
    if known is not None and known[0] == key:
        return known[1]
    digest = _hash(path)
    if is_writable(memory):
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(memory, durable=False) as temporary:
            temporary.write_text(json.dumps([key, digest]), encoding="utf-8")
    return digest


def _remembered(memory: Path) -> tuple[list[Any], str] | None:
    """What a memory file says: what was seen, and the hash; None where there is none, or it is cut short."""
    try:
        key, digest = json.loads(memory.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return (key, digest) if isinstance(digest, str) and len(digest) == 64 else None
