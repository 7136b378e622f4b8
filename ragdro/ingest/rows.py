"""Tables: CSV, TSV, Parquet and JSON lines, a document a row, read row by row.

Which columns hold the text and the title is what the user says, or follows from their names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from ragdro.data.psgs_tsv import unquoted
from ragdro.data.record import json_reason
from ragdro.data.stream import lines
from ragdro.data.table import CsvRow, csv_rows
from ragdro.errors import DataError
from ragdro.ingest.decode import MIXED, encoding_of, errors_for, mixed_lines, plain
from ragdro.ingest.document import Document, ReadOptions, Remarks, UnreadableError
from ragdro.units import counted

Row: TypeAlias = Mapping[str, object]

TEXT_NAMES = (
    *("text", "content", "contents", "body", "passage", "document", "article", "page_content", "abstract"),
    *("description", "message", "answer", "summary"),
)
"""Columns that are taken for the text, the first that is there."""

TITLE_NAMES = ("title", "headline", "subject", "heading", "name")

_HEAD_BYTES = 2**18
_HEAD_ROWS = 100
_BATCH = 1024
_NAMED = 20


def text_columns(columns: Sequence[str], options: ReadOptions) -> tuple[tuple[str, ...], str | None]:
    """The columns of the text, and that of the title or None. Raises UnreadableError with the choice."""
    missing = [name for name in (*options.text_fields, options.title_field) if name and name not in columns]
    if missing:
        raise UnreadableError(f"has no column {missing[0]!r}; its columns: {_listed(columns)}")
    by_name = {column.strip().casefold(): column for column in reversed(columns)}
    texts = options.text_fields
    if not texts:
        named = [by_name[name] for name in TEXT_NAMES if name in by_name][:1]
        texts = tuple(named or (columns if len(columns) == 1 else ()))
    if not texts:
        raise UnreadableError(
            f"no column is named like a text: choose with --text-field from: {_listed(columns)}"
        )
    title_column = next((by_name[name] for name in TITLE_NAMES if name in by_name), None)
    title = options.title_field or (None if title_column in texts else title_column)
    twice = next((name for name in (*texts, title) if name is not None and columns.count(name) > 1), None)
    if twice is not None:
        raise UnreadableError(f"has two columns {twice!r}: rename one, or leave it out")
    return texts, title


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _NAMED} more" if len(columns) > _NAMED else ""
    return (", ".join(columns[:_NAMED]) + more) or "none"


def read_csv(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """A table whose first line names the columns, separated by `,`, `;`, tab or `|`: what the line holds.

    Quotation marks are read as in data files (see `ragdro.data.table`).
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    name = encoding_of(head, remarks, encoding=options.encoding, whole=len(head) < _HEAD_BYTES)
    try:
        texts = _text_lines(path, name, remarks)
        first = next(texts, "")
        delimiter = "\t" if path.suffix.casefold() == ".tsv" else max(",;\t|", key=first.count)
        whole = chain([first], texts)
        table = _tab_rows(whole) if delimiter == "\t" else csv_rows(whole, delimiter)
        header = next(table, CsvRow(1, 1, []))
        if header.wrong:
            raise UnreadableError(f"line {header.begins}: {header.wrong}")
        yield from _documents(header.fields, _cells(table, header.fields, remarks), options, remarks)
    except (UnicodeDecodeError, LookupError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UnreadableError(f"is no table in {name} ({reason}): name another with --encoding") from error


def _tab_rows(texts: Iterator[str]) -> Iterator[CsvRow]:
    """The rows of a table with tabs, a row a line, as `ragdro.data.table` reads them."""
    for number, line in enumerate(texts, start=1):
        if line.strip("\r\n"):
            yield CsvRow(number, number, [unquoted(field) for field in line.rstrip("\r\n").split("\t")])


def _text_lines(path: Path, name: str, remarks: Remarks) -> Iterator[str]:
    if name == MIXED:
        with path.open("rb") as file:
            yield from mixed_lines(file, remarks)
        return
    encoding, errors = "utf-8-sig" if name == "utf-8" else name, errors_for(name)
    with path.open(encoding=encoding, errors=errors, newline="") as text:
        yield from text


def _cells(table: Iterator[CsvRow], columns: list[str], remarks: Remarks) -> Iterator[tuple[int, Row]]:
    for number, row in enumerate(table, start=1):
        if row.wrong and row.begins < row.ends:
            raise UnreadableError(f"row {number}, lines {row.begins} to {row.ends}: {row.wrong}")
        if row.wrong:
            remarks.problem(f"row {number}: {row.wrong}")
        elif len(row.fields) != len(columns):
            remarks.problem(
                f"row {number} has {counted(len(row.fields), 'cells')}, the first line names {len(columns)}"
            )
        else:
            yield number, dict(zip(columns, row.fields, strict=True))


def read_parquet(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The rows of a Parquet file; only the columns that are needed are read."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
            texts, title = text_columns(columns, options)
            batches = file.iter_batches(_BATCH, columns=[*texts, *([title] if title else [])])
            rows = (row for batch in batches for row in batch.to_pylist())
            numbered: Iterator[tuple[int, Row]] = enumerate(rows, start=1)
            yield from _documents(columns, numbered, options, remarks)
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the system; Arrow raises it without a number for damaged headers
        reason = " ".join(str(error).split())[:120]
        raise UnreadableError(f"is no whole Parquet file ({reason})") from error


def read_jsonl(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """One object a line. Lines that are none are problems; the first hundred objects name the columns."""
    try:
        head = islice(_objects(path, Remarks()), _HEAD_ROWS)  # read twice, so that one row is held
        columns = list(dict.fromkeys(name for _, row in head for name in row))
        if columns:
            yield from _documents(columns, _objects(path, remarks), options, remarks)
        else:
            deque(_objects(path, remarks), maxlen=0)  # says what is wrong with its lines
    except DataError as error:
        raise UnreadableError(str(error).removeprefix(f"{path}:").lstrip()) from error


def _objects(path: Path, remarks: Remarks) -> Iterator[tuple[int, Row]]:
    for number, line in lines(path):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            remarks.problem(f"line {number} is not JSON: {json_reason(error)}")
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            remarks.problem(f"line {number} holds no object")


def _documents(
    columns: Sequence[str], rows: Iterator[tuple[int, Row]], options: ReadOptions, remarks: Remarks
) -> Iterator[Document]:
    texts, title = text_columns(columns, options)
    empty = 0
    for number, row in rows:
        wrong = next((name for name in texts if not _is_plain(row.get(name))), None)
        if wrong is not None:
            remarks.problem(f"row {number}: column {wrong!r} holds no text")
            continue
        text = "\n\n".join(filter(str.strip, (_string(row.get(name)) for name in texts)))
        if not text.strip():
            empty += 1
            continue
        named = row.get(title) if title else None
        yield Document(text, " ".join(_string(named).split()), row=number)
    if empty:
        remarks.notes.append(f"rows without text: {empty}")


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | None) and not isinstance(value, bool)


def _string(value: Any) -> str:
    return plain(value if isinstance(value, str) else "" if value is None else str(value))
