"""What a script has made, kept beside the options that it was made with; with others it is made anew.

In: a file, the options that change what is made, how it is made. Out: what the file holds. Options that are
no JSON (paths) are kept as their text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ragdro.errors import RagdroError
from ragdro.files import write_atomically


def kept(file: Path, options: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What `file` holds, if it was made with `options`; else what `make` gives, which is written there.

    The options are in it under `asked`.
    """
    if file.is_file():
        row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if row.get("asked") == plain(options):
            return row
    row = plain({**make(), "asked": options})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(row, ensure_ascii=False, indent=1) + "\n")
    return row


def is_made(record: Path, options: Mapping[str, Any], uses: Iterable[Path], another: str) -> bool:
    """Whether files were made with `options`, which `record` says of them.

    Where they were not, the record is taken away: they are about to be made anew. Raises `RagdroError`,
    naming the first option that differs and `another` to give, where one of `uses` is there, which was made
    of them.
    """
    made = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    known, now = made if isinstance(made, dict) else {}, plain(options)
    either = {**now, **known}
    different = next((key for key in either if known.get(key) != now.get(key)), None)
    used = next((path for path in uses if path.exists()), None)
    if different is not None and used is not None:
        before = known.get(different, "what is not known")
        here = now.get(different, "not asked for")
        raise RagdroError(f"{different}: {here} here, but {used} was made with {before}; {another}")
    if different is not None:
        record.unlink(missing_ok=True)
    return different is None


def note(record: Path, options: Mapping[str, Any]) -> None:
    """Write down what files are made with, for `is_made`."""
    record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(record, json.dumps(plain(options), ensure_ascii=False) + "\n")


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON has them."""
    result: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return result
