"""Which files below the given paths are read, under which name, and what is left aside.

Files come in the order of their names, so that the same folder gives the same corpus. Links to files are
followed, links to folders are not (they may lead in a circle). Hidden files are left aside.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ragdro.access import absent, refused
from ragdro.errors import DataError
from ragdro.ingest.formats import BY_SUFFIX, FileFormat, format_of
from ragdro.units import counted


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read: where it is, and its name relative to the folder that was given, with `/`."""

    path: Path
    name: str
    format: FileFormat


@dataclass(slots=True)
class Listing:
    """What was found: files to read, unreadable ones with the reason, and counts of what is left aside."""

    files: list[InputFile] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    other_suffixes: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    folder_links: int = 0
    repeated: int = 0

    def left_aside(self) -> list[str]:
        """A line each for what was left aside by rule."""
        lines = []
        if self.other_suffixes:
            named = [f"{count} {suffix}" for suffix, count in self.other_suffixes.most_common(6)]
            more = len(self.other_suffixes) - len(named)
            kinds = f" and {counted(more, 'other kinds')}" if more > 0 else ""
            lines.append(f"not read, by suffix: {', '.join(named)}{kinds}")
        if self.hidden:
            lines.append(f"not read, files and folders that are hidden: {self.hidden}")
        if self.folder_links:
            lines.append(f"not followed, links to folders: {self.folder_links} (give their targets as PATHs)")
        if self.repeated:
            lines.append(f"read once, files with several links or PATHs: {self.repeated}")
        return lines


def list_files(paths: Sequence[Path], out: Path) -> Listing:
    """The files below `paths`.

    Raises DataError for a path that is not there or has a suffix that is not read, two different files with
    one name, and an output that the next run would read.
    """
    listing = Listing()
    for path in paths:
        if path.is_dir():
            _refuse_inside(path, out)
            _add_folder(path, listing)
        elif not path.exists():
            raise DataError(absent(path, "file or folder"), path=path)
        elif path.resolve() == out.resolve():
            raise DataError("is the output and an input: give --out another name", path=out)
        else:
            _add_file(path, listing)
    return _once(listing)


def _refuse_inside(folder: Path, out: Path) -> None:
    if out.resolve().is_relative_to(folder.resolve()):
        better = os.path.relpath(folder.resolve().parent / out.name)
        raise DataError(
            f"lies inside the folder that is read, {folder}: give --out a place outside it, "
            f"as in --out {better}",
            path=out,
        )


def _add_file(path: Path, listing: Listing) -> None:
    known = format_of(path)
    if known is None:
        suffixes = " ".join(sorted(BY_SUFFIX))
        raise DataError(f"has a suffix that is not read; those that are: {suffixes}", path=path)
    listing.files.append(InputFile(path, path.name, known))


def _add_folder(folder: Path, listing: Listing) -> None:
    for path, reason in _walk(folder, listing):
        name = path.relative_to(folder).as_posix()
        known = format_of(path)
        if reason:
            listing.unreadable.append((name, reason))
        elif known is None:
            listing.other_suffixes[path.suffix.casefold() or "without one"] += 1
        elif _is_text(name):
            listing.files.append(InputFile(path, name, known))
        else:
            shown = name.encode("utf-8", "backslashreplace").decode()
            listing.unreadable.append((shown, "its name is not UTF-8: rename it"))


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _walk(folder: Path, listing: Listing) -> Iterator[tuple[Path, str]]:
    """The files below a folder, each with why it cannot be read, "" where it can."""
    failed: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=failed.append):
        here = Path(where)
        listing.folder_links += sum((here / name).is_symlink() for name in folders)
        listing.hidden += sum(map(_is_hidden, (*folders, *names)))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name):
                yield here / name, _reason(here / name)
    for error in failed:
        yield Path(error.filename), f"is a folder that cannot be read: {refused(error)}"


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$"))  # the latter are the locks of open Office documents


def _reason(path: Path) -> str:
    """Why a directory entry is no file to read."""
    if format_of(path) is None or path.is_file():
        return ""
    if path.is_symlink():
        return "is a link that leads nowhere: mend or remove it"
    return "is not a regular file"


def _once(listing: Listing) -> Listing:
    """Every file once: under its own name rather than a link's, or the first path's."""
    files: dict[str, InputFile] = {}
    real: dict[Path, InputFile] = {}
    for file in sorted(listing.files, key=lambda file: file.path.is_symlink()):
        target = file.path.resolve()
        if target in real:
            listing.repeated += 1
            continue
        if file.name in files:
            raise DataError(
                f"and {files[file.name].path} are both called {file.name}: "
                "give the folder above them, or one PATH at a time",
                path=file.path,
            )
        files[file.name] = real[target] = file
    listing.files = sorted(real.values(), key=lambda file: file.name)
    return listing
