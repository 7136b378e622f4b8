"""Tables as text: CSV (commas or semicolons) and TSV, with a header of column names.

In CSV, fields may be quoted and hold line breaks. A row of several lines whose quotation marks are wrong ends
the reading: the rows after it would be taken for its text. In TSV, a field in quotation marks is unquoted and
others are taken as they are, one row a line. An empty field is an absent one. DPR's question files have no
header: two columns, a question and its answers as a list in a string.
"""

from __future__ import annotations

import csv
import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from ragdro.access import recoded
from ragdro.data.psgs_tsv import unquoted
from ragdro.data.record import texts_in
from ragdro.data.stream import MAX_RECORD_BYTES, chunks, lines
from ragdro.errors import DataError
from ragdro.units import counted

_DELIMITERS = {"csv": ",;", "tsv": "\t"}
_LONGEST_NAME = 60
_HEADLESS = ["question", "answers"]
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

Row = tuple[int, dict[str, object] | DataError]


def kind(first: bytes, columns: Collection[str], *, named: bool) -> Literal["csv", "tsv"] | None:
    """Which table a first line begins: one of its columns is known, or the file's name says it is one."""
    try:
        line = first.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return None
    if _is_headless(line):
        return "tsv"
    for table in ("tsv", "csv"):
        names = _header(line, table)
        if names is not None and (named or not set(columns).isdisjoint(names)):
            return table
    return None


def _header(line: str, table: str) -> list[str] | None:
    """The column names of a first line; None where it cannot be a header of that kind of table."""
    delimiter = _delimiter(line, table)
    names = line.split("\t") if table == "tsv" else next(csv.reader([line], delimiter=delimiter), [])
    names = [unquoted(name).strip() for name in names]
    whole = all(names) and len(set(names)) == len(names) and max(map(len, names), default=0) <= _LONGEST_NAME
    return names if whole and (len(names) > 1 or table == "csv") else None


def _delimiter(line: str, table: str) -> str:
    return max(_DELIMITERS[table], key=line.count)


def _is_headless(line: str) -> bool:
    columns = line.split("\t")
    return len(columns) == 2 and texts_in(unquoted(columns[1])) is not None


def rows(path: Path, table: Literal["csv", "tsv"]) -> Iterator[Row]:
    """The rows, each with the line it ends on; a row of another length than the header is an error in its
    place. Raises DataError where the file cannot be read on."""
    return _tsv_rows(path) if table == "tsv" else _csv_rows(path)


def _tsv_rows(path: Path) -> Iterator[Row]:
    names: list[str] = []
    for number, data in lines(path):
        try:
            line = data.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            yield (
                number,
                DataError(
                    f"is not UTF-8 (byte {error.start} of the row); {recoded(path)}", path=path, line=number
                ),
            )
            continue
        if not names:
            headless = _is_headless(line)
            names = _HEADLESS if headless else _header(line, "tsv") or []
            if not headless:
                continue
        yield number, _row(names, [unquoted(field) for field in line.split("\t")], path, number)


def _csv_rows(path: Path) -> Iterator[Row]:
    texts = _text_lines(path)
    before = 1
    first = next(texts)
    while not first.strip():
        first = next(texts)
        before += 1
    names = _header(first.rstrip("\r\n"), "csv") or []
    for row in csv_rows(texts, _delimiter(first, "csv")):
        if row.wrong:
            error = DataError(f"is no whole CSV row: {row.wrong}", path=path, line=before + row.begins)
            if row.begins < row.ends:
                raise error
            yield before + row.ends, error
        else:
            yield before + row.ends, _row(names, row.fields, path, before + row.ends)


class CsvRow(NamedTuple):
    """A row of CSV: the lines it begins and ends on, from 1, and its fields or what is wrong with it."""

    begins: int
    ends: int
    fields: list[str]
    wrong: str = ""


def csv_rows(texts: Iterator[str], delimiter: str) -> Iterator[CsvRow]:
    """The rows of CSV, blank lines left out; `texts` are its lines with their ends.

    A row whose quotation marks are wrong has `wrong`. One of several lines may hold what are rows of their
    own: a caller must not pass over it as one row.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield CsvRow(begins, reader.line_num, [], _csv_reason(str(error)))
            continue
        if fields:
            yield CsvRow(begins, reader.line_num, fields)


def _csv_reason(said: str) -> str:
    if said.startswith("unexpected end"):
        return 'a field begins with " and no " ends it'
    if "expected after" in said:
        return 'after the " that ends a field there is more of it; a " inside of a field is written ""'
    if "new-line" in said:
        return "a line ends with a carriage return alone; save the file with line feeds"
    return said


def _row(names: list[str], fields: list[str], path: Path, line: int) -> dict[str, object] | DataError:
    if len(fields) != len(names):
        return DataError(
            f"has {counted(len(fields), 'columns')}, the header {len(names)}", path=path, line=line
        )
    if any("\x00" in field for field in fields):
        return DataError("holds a NUL byte", path=path, line=line)
    return {name: field for name, field in zip(names, fields, strict=True) if field.strip()}


def _text_lines(path: Path) -> Iterator[str]:
    """The lines with their ends, blank ones included: a quoted field may hold one."""
    decoder, rest = getincrementaldecoder("utf-8")(), ""
    try:
        for piece in chunks(path):
            *whole, rest = _LINE.findall(rest + decoder.decode(piece)) or [""]
            yield from whole
        yield rest + decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8; {recoded(path)}", path=path) from error
