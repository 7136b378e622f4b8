"""`psgs_w100.tsv`, DPR's Wikipedia passages: a header and `id`, `text`, `title` in columns, 21 million rows.

Columns are taken from the header in whatever order it names them. A field written in quotation marks
has its inner ones doubled (Python's csv writer); others are taken as they are. Rows are streamed.
"""

from __future__ import annotations

from collections.abc import Callable

from ragdro.errors import DataError
from ragdro.types import Passage
from ragdro.units import counted

COLUMNS = ("id", "text", "title")


def is_header(line: bytes) -> bool:
    """Whether a file's first line names an id and a text column, tab-separated."""
    names = line.rstrip(b"\r\n").split(b"\t")
    return b"id" in names and b"text" in names


def unquoted(field: str) -> str:
    """A field without the quotation marks around it, the inner ones no longer doubled."""
    if len(field) > 1 and field[0] == field[-1] == '"':
        return field[1:-1].replace('""', '"')
    return field


def row_reader(header: bytes) -> Callable[[bytes, object, int], Passage]:
    """The function (row, path, line) → passage for the columns that `header` names."""
    names = header.rstrip(b"\r\n").decode("ascii", "replace").split("\t")
    id_at, text_at = names.index("id"), names.index("text")
    title_at = names.index("title") if "title" in names else None
    width = len(names)

    def read(row: bytes, path: object, line: int) -> Passage:
        if b"\x00" in row:
            raise DataError("holds a NUL byte", path=path, line=line)
        try:
            fields = row.rstrip(b"\r").decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            message = f"is not UTF-8 (byte {error.start} of the record)"
            raise DataError(message, path=path, line=line) from error
        if len(fields) != width:
            raise DataError(
                f"has {counted(len(fields), 'columns')}, the header {width}", path=path, line=line
            )
        passage_id, text = unquoted(fields[id_at]), unquoted(fields[text_at])
        title = "" if title_at is None else unquoted(fields[title_at])
        if not passage_id.strip():
            raise DataError("is empty", path=path, line=line, field="id")
        if not text.strip() and not title.strip():
            raise DataError("is empty", path=path, line=line, field="text")
        return Passage(passage_id, title, text)

    return read
