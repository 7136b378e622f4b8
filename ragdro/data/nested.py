"""Files that are one JSON object with the records inside: SQuAD's, LlamaIndex's, and objects of one list.

- SQuAD: `{"data": [{"title", "paragraphs": [{"context", "qas": [...]}]}]}`; a record is a question with its
  `title` and `context`;
- a LlamaIndex document store: `{"docstore/data": {id: {"__data__": {...}}}}`; a record is a node;
- any object with a list of records under a usual name (`{"version": 1, "data": [{...}]}`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ragdro.data.record import parse
from ragdro.data.stream import MAX_RECORD_BYTES, chunks
from ragdro.errors import DataError

_STORE = "docstore/data"
_HOLDERS = (
    *("data", "examples", "questions", "documents", "docs", "passages", "nodes", "records", "rows"),
    *("items", "entries", "instances", "samples"),
)
"""What the list of records is called in a file that is one object."""
_OF_RECORDS = ("id", "_id", "question", "query", "input", "prompt", "text", "contents", "content")
"""Fields by which an object is a record itself."""


def rows(value: object) -> list[dict[str, object]] | None:
    """The records in an object; None where it is no container of records."""
    if not isinstance(value, dict) or any(name in value for name in _OF_RECORDS):
        return None
    if isinstance(value.get(_STORE), dict):
        return [node for node in value[_STORE].values() if isinstance(node, dict)]
    name = next((name for name in _HOLDERS if _holds_objects(value.get(name))), None)
    if name is None:
        return None
    records: list[dict[str, object]] = value[name]
    if all("paragraphs" in article for article in records):
        return [question for article in records for question in _questions(article)]
    return records


def _holds_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _questions(article: dict[str, object]) -> Iterator[dict[str, object]]:
    paragraphs = article["paragraphs"]
    if not isinstance(paragraphs, list):
        return
    for paragraph in paragraphs:
        entries = paragraph.get("qas") if isinstance(paragraph, dict) else None
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict):
                yield {**entry, "title": article.get("title"), "context": paragraph.get("context")}


def read(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """The records of a file that is one object, all with line 1; the object itself where it holds none.

    The file is read whole: raises DataError where it is longer than a record may be, and as `parse` does.
    """
    pieces: list[bytes] = []
    for piece in chunks(path):
        pieces.append(piece)
        if sum(map(len, pieces)) > MAX_RECORD_BYTES:
            raise DataError(f"one JSON object longer than {MAX_RECORD_BYTES // 2**20} MiB", path=path, line=1)
    fields = dict(parse(b"".join(pieces), path, 1, 0).fields)
    for record in rows(fields) or [fields]:
        yield 1, record
