"""What an index folder says of itself: `index.json` where it is finished, `started.json` before.

In: a folder. Out: whether there is an index in it, of which format, built from what. RetrievalError for what
is none.
"""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from ragdro.access import absent
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file

FORMAT = 3
"""Raised whenever an older index folder or candidates file may no longer be read as a newer one."""

MANIFEST, STARTED, LOCK = "index.json", "started.json", ".lock"


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished index."""
    return (folder / MANIFEST).is_file()


def index_settings(folder: Path) -> dict[str, Any]:
    """The settings that a finished index was built with; RetrievalError where there is none."""
    settings: dict[str, Any] = index_manifest(folder)["settings"]
    return settings


def index_manifest(folder: Path) -> dict[str, Any]:
    """What a finished index says of itself; RetrievalError where there is none."""
    manifest = read_json(folder / MANIFEST)
    if manifest is None:
        if (folder / STARTED).exists():
            raise RetrievalError(f"{folder}: the index is unfinished: build it again")
        there = "the folder holds no index" if folder.is_dir() else absent(folder, "index")
        make = f"ragdro index --corpus CORPUS --out {shlex.quote(str(folder))}"
        raise RetrievalError(f"{folder}: {there}; build one: {make}")
    if manifest.get("format") != FORMAT:
        raise RetrievalError(
            f"{folder}: written in format {manifest.get('format')}, this version reads {FORMAT}"
        )
    return manifest


def refuse_foreign(folder: Path) -> None:
    """RetrievalError for a folder with content that is not of an index, begun or finished."""
    ours = (LOCK, f".{STARTED}.", f".{MANIFEST}.")  # the last two while they are written
    seen = any(not entry.name.startswith(ours) for entry in folder.iterdir())
    if seen and not any((folder / name).exists() for name in (STARTED, MANIFEST)):
        raise RetrievalError(f"{folder}: not empty and not an index; give another folder")


def clear(folder: Path) -> None:
    """Empty a folder of an unfinished index; RetrievalError if its content is not ours."""
    refuse_foreign(folder)
    content = [entry for entry in folder.iterdir() if entry.name != LOCK]
    for entry in sorted(content, key=lambda entry: entry.name == STARTED):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def remove_if_bare(folder: Path) -> None:
    """Remove a folder that a failed build leaves with nothing but its lock in it."""
    if [entry.name for entry in folder.iterdir()] == [LOCK]:
        (folder / LOCK).unlink()
        folder.rmdir()


def read_json(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RetrievalError(f"{path}: not JSON ({error})") from error
    if not isinstance(values, dict):
        raise RetrievalError(f"{path}: not a JSON object")
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write(json.dumps(values, ensure_ascii=False, indent=1, sort_keys=True).encode())
