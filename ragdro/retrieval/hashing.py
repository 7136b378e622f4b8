"""Names for content: SHA-256 over files, folders, models and JSON values."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ragdro.errors import DataError

_SETTLED = 2_000_000_000
"""A file that was written less than so many nanoseconds ago may change again with the same size and time."""


def hash_file(path: Path) -> str:
    """The file's SHA-256; DataError names a file that cannot be read."""
    try:
        status = path.stat()
        if time.time_ns() - status.st_mtime_ns < _SETTLED:
            return _hash(path)
        return _known_hash(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error


def hash_folder(folder: Path) -> str:
    """A hash of the names and contents of all files below the folder, wherever the folder lies."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_values([path.relative_to(folder).as_posix(), hash_file(path)] for path in files)


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
def _known_hash(path: Path, size: int, modified: int) -> str:
    """The hash of a file as it was when it had this size and this time of its last change."""
    return _hash(path)
