"""Names for content: SHA-256 over files, folders and JSON values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ragdro.errors import DataError


def hash_file(path: Path) -> str:
    """The file's SHA-256; DataError names a file that cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from error


def hash_folder(folder: Path) -> str:
    """A hash of the names and contents of all files below the folder, wherever the folder lies."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_values([path.relative_to(folder).as_posix(), hash_file(path)] for path in files)


def hash_values(values: Iterable[Any]) -> str:
    """A hash of a stream of JSON values."""
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
