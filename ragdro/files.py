"""Files that are whole or absent: written under another name, flushed to disk, then renamed.

In: a target path. Out: an open file; on an exception (Ctrl-C included) the target is untouched and
the temporary file is gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


@contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the block ends well; OSError where the disk refuses."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    encoding = None if "b" in mode else "utf-8"
    try:
        with temporary.open(mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a finished, flushed file so that the new name survives a crash."""
    source.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step."""
    with atomic_file(path, "w") as file:
        file.write(text)
