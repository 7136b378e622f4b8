"""What a source is made of, and its records: JSON lines, a JSON list or object, a table, Parquet, Arrow.

In: a path or an `hf:` name. Out: raw records, each with its line (row, where there are no lines). Layout and
compression are recognised from the first bytes; a name's ending says only that a text without any known
column is meant to be a table.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from ragdro.data import arrow, documents, hub, nested, table
from ragdro.data.record import Record, parse
from ragdro.data.stream import compression_of, elements, first_bytes, lines
from ragdro.errors import DataError

Source: TypeAlias = str | Path
Container: TypeAlias = Literal[
    "jsonl",
    "json list",
    "json object",
    "csv",
    "tsv",
    "parquet",
    "arrow",
    "saved dataset",
    "folder",
    "hub",
]
Raw: TypeAlias = bytes | dict[str, object] | DataError
"""A record before it is read: a line or list element, a row, or what is wrong with a row."""

NAMES: dict[Container, str] = {
    "jsonl": "JSON lines",
    "json list": "a JSON list",
    "json object": "a JSON object",
    "csv": "a CSV",
    "tsv": "a TSV",
    "parquet": "a Parquet file",
    "arrow": "an Arrow file",
    "saved dataset": "a saved dataset",
    "hub": "a dataset",
}
"""What each is called in a message."""

_MAGIC: dict[bytes, Container] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_FOREIGN = {
    b"%PDF": f"a PDF; {documents.INGEST}",
    b"SQLite format 3": "an SQLite database; write a table as CSV: sqlite3 -header -csv {file} 'select * from"
    " TABLE' > TABLE.csv",
    b"\x89HDF": "an HDF5 file; write it as CSV or Parquet",
}
_TABLES = (".csv", ".tsv", ".tab")


def container_of(path: Path, columns: Collection[str]) -> Container:
    """What a file or a folder that is no BEIR folder is made of.

    A text is a table if its first line names one of `columns`, or the file's name says so. Raises DataError
    for a file that is missing, empty, unreadable or of a kind that we do not read.
    """
    if path.is_dir():
        arrow.check_saved(path)
        return "saved dataset"
    compression_of(path)
    head = first_bytes(path)
    for magic, container in _MAGIC.items():
        if head.startswith(magic):
            return container
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"is {what.format(file=shlex.quote(str(path)))}", path=path)
    if head.startswith(documents.ZIP):
        raise DataError(f"is {documents.zipped(path)}", path=path)
    start = list(islice(lines(path), 2))
    if not start:
        raise DataError("is empty; name a file with records", path=path)
    first = start[0][1].lstrip()
    if first[:1] == b"[":
        return "json list"
    if first[:1] == b"{":
        return (
            "json object" if _is_object(first, start[1][1].lstrip() if len(start) > 1 else b"") else "jsonl"
        )
    named = Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower() in _TABLES
    return table.kind(first, columns, named=named) or "jsonl"


def _is_object(first: bytes, second: bytes) -> bool:
    """Whether a file that starts with `{` is one object: a line with records in it, or several lines."""
    try:
        value = orjson.loads(first)
    except orjson.JSONDecodeError:
        return second[:1] in (b'"', b"}")
    return not second and nested.rows(value) is not None


def raw_records(source: Source, container: Container) -> Iterator[tuple[int, Raw]]:
    """The records of a source before they are read, each with its line (row, for a dataset)."""
    match container:
        case "hub":
            return hub.rows(str(source))
        case "json list":
            return elements(Path(source))
        case "json object":
            return nested.read(Path(source))
        case "csv" | "tsv":
            return table.rows(Path(source), container)
        case "parquet" | "arrow" | "saved dataset":
            return arrow.rows(Path(source), container)
        case _:
            return lines(Path(source))


def to_record(raw: Raw, source: Source, line: int, position: int) -> Record:
    """The record in `raw`; raises DataError where it is not a JSON object or a row is not whole."""
    if isinstance(raw, DataError):
        raise raw
    if isinstance(raw, bytes):
        return parse(raw, source, line, position)
    return Record(raw, source, line, position)
