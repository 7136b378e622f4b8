"""Files that are whole or absent: written under another name, flushed to disk, then renamed.

In: a target path. Out: an open file; on an exception (Ctrl-C included) the target is untouched and
the temporary file is gone.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4


@contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """An open file that becomes `path` when the block ends well; OSError where the disk refuses."""
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as temporary, temporary.open(mode, encoding=encoding) as file:
        yield file


@contextmanager
def atomic_path(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A name to write a file under, which becomes `path` when the block ends well.

    Without `durable` it is not forced to disk: quicker for many small files, but after a power failure the
    file may be cut short, so it needs a checksum of its own. IsADirectoryError before anything is written
    where `path` is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
    except OSError as error:
        if error.filename is None:  # a full disk is said of no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends well.

    For content that the name determines: where another process was first, its folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    making.mkdir()
    try:
        yield making
        try:
            making.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) and not folder.is_dir():
                raise  # a folder that machines share may be there and not be seen yet
    finally:
        shutil.rmtree(making, ignore_errors=True)


def made_beside(folder: Path) -> Path:
    """Where a folder is made that `replace_folder` is to put in the place of `folder`."""
    return folder.with_name(f".{folder.name}.new")


def replace_folder(made: Path, folder: Path) -> None:
    """Put the finished folder `made` where `folder` is, or is not yet.

    What was there stands aside until then: where this is killed, `finish_replacing` has both.
    """
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    rename_durably(made, folder)
    shutil.rmtree(aside, ignore_errors=True)


def finish_replacing(made: Path, folder: Path) -> None:
    """What a `replace_folder` that was killed did not come to: `folder` is the finished one, or, where that
    is gone, the one before. Nothing where none was killed."""
    for left in (made, _aside(folder)):
        if left.is_dir() and not folder.exists():
            rename_durably(left, folder)
    shutil.rmtree(_aside(folder), ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def remove_temporary_files(folder: Path) -> None:
    """What writes that were killed left in `folder`: temporary files and folders of this module's naming."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def rename_durably(source: Path, target: Path) -> None:
    """Rename a finished, flushed file so that the new name survives a crash."""
    source.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Force a closed file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_writable(path: Path) -> bool:
    """Whether files may be made in the folder of `path`, or in the nearest one above that there is."""
    return os.access(next(folder for folder in path.absolute().parents if folder.exists()), os.W_OK | os.X_OK)


def finish_files(folder: Path) -> None:
    """`finish_file` of all files in a folder and below."""
    for file in folder.rglob("*"):
        if file.is_file():
            finish_file(file)


def finish_file(path: Path) -> None:
    """Force a file to disk, with the rights that a new file has in its folder: safetensors makes its files
    the owner's alone, so that a copy could be served by nobody else."""
    path.chmod(path.parent.stat().st_mode & 0o666)
    sync(path)


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step."""
    with atomic_file(path, "w") as file:
        file.write(text)
