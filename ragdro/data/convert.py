"""Any recognised source written as our own JSONL: `ragdro data convert`.

Questions become `{"id", "question", "answers", …}` lines, passages `{"id", "title", "text"}` lines. The
output is whole or absent, and compressed where its name ends in `.gz` or `.zst`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol

import orjson
import zstandard

from ragdro.access import refused
from ragdro.data.containers import Source
from ragdro.data.formats import Format, recognise
from ragdro.data.loose import NO_NAMES, FieldNames
from ragdro.data.own import is_reference, source_object
from ragdro.data.read import Reading, read_corpus, read_questions
from ragdro.errors import DataError
from ragdro.files import atomic_file
from ragdro.types import Passage, Question


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, data: bytes, /) -> int:
        """Writes `data`; OSError where the disk refuses."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written: the source's format, how many records, and the errors of those skipped."""

    format: Format
    records: int
    skipped: tuple[DataError, ...]


def convert(
    source: Source,
    out: str | Path,
    *,
    as_corpus: bool = False,
    skip_bad: int = 0,
    aliases: str | Path | None = None,
    fields: FieldNames = NO_NAMES,
) -> Converted:
    """Writes `source` to `out` in our own JSONL.

    An existing `out` is replaced. `as_corpus` writes passages: those of a BEIR folder's corpus, or the
    different ones that came with a file of questions, which make a closed pool to retrieve from; `fields`
    are the user's names for our fields. Raises
    DataError on bad input, where `out` cannot be written, and where there are no passages to write.
    """
    path = Path(out)
    source_format = recognise(source, fields, as_corpus=as_corpus)
    reading: Reading[Passage] | Reading[Question]
    objects: Iterable[dict[str, object]]
    if source_format.kind == "corpus" or (source_format.kind == "both" and as_corpus):
        reading = passages = read_corpus(source, skip_bad=skip_bad, fields=fields)
        objects = (passage_object(passage, with_gold=False) for passage in passages)
    else:
        reading = questions = read_questions(source, skip_bad=skip_bad, aliases=aliases, fields=fields)
        objects = (
            (passage_object(passage, with_gold=False) for passage in _pool(questions, source))
            if as_corpus
            else (question_object(question) for question in questions)
        )
    count = _write(path, objects)
    return Converted(source_format, count, tuple(reading.skipped))


def write_questions(path: Path, questions: Iterable[Question]) -> int:
    """Write questions as our own JSONL; returns how many. Raises `DataError` where it cannot be written."""
    return _write(path, map(question_object, questions))


def write_corpus(path: Path, passages: Iterable[Passage]) -> int:
    """Write passages as our own JSONL; returns how many. Raises `DataError` where it cannot be written."""
    return _write(path, (passage_object(passage, with_gold=False) for passage in passages))


def passage_object(passage: Passage, *, with_gold: bool = True) -> dict[str, object]:
    """A passage as our own JSONL has it; `gold` and `source` only where they are known."""
    known = {"gold": passage.gold} if with_gold and passage.gold is not None else {}
    placed = {} if passage.source is None else {"source": source_object(passage.source)}
    return {"id": passage.id, "title": passage.title, "text": passage.text, **known, **placed}


def question_object(question: Question) -> dict[str, object]:
    """A question as our own JSONL has it; what it does not have is left out."""
    written: dict[str, object] = {
        "id": question.id,
        "question": question.question,
        "answers": list(question.answers),
    }
    if question.passages:
        written["passages"] = [passage_object(passage) for passage in question.passages]
    given = question.candidates
    if given is not None and given.passages and all(map(is_reference, given.passages)):
        written["candidates"] = [passage.id for passage in given.passages]
    elif question.candidates is not None:
        scores = question.candidates.scores or (None,) * len(question.candidates.passages)
        written["candidates"] = [
            {**passage_object(passage), **({} if score is None else {"score": score})}
            for passage, score in zip(question.candidates.passages, scores, strict=True)
        ]
    if question.ranking is not None:
        written["ranking"] = list(question.ranking)
    if question.hops is not None:
        written["hops"] = question.hops
    if question.queries is not None:
        written["queries"] = list(question.queries)
    if question.standalone is not None:
        written["standalone"] = question.standalone
    return written


def _pool(questions: Iterable[Question], source: Source) -> Iterator[Passage]:
    """The different passages of all questions. An id that another passage has already (`0`, `1`, … in each
    question) is written after its question's."""
    seen: set[int] = set()
    ids: set[str] = set()
    for question in questions:
        candidates = () if question.candidates is None else question.candidates.passages
        for passage in (*question.passages, *candidates):
            key = hash(passage.content)
            if passage.text and key not in seen:
                seen.add(key)
                named = passage.id if passage.id not in ids else f"{question.id}:{passage.id}"
                while named in ids:
                    named += "'"
                ids.add(named)
                yield replace(passage, id=named)
    if not seen:
        raise DataError("has no passages to make a corpus of", path=source)


def _write(path: Path, objects: Iterable[dict[str, object]]) -> int:
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file, compressed(file, path) as packed:
            for value in objects:
                packed.write(orjson.dumps(value) + b"\n")
                count += 1
    except OSError as error:
        raise DataError(f"cannot be written: {refused(error, path)}", path=path) from error
    return count


def compressed(file: IO[bytes], path: Path) -> AbstractContextManager[Writable]:
    """What to write to so that `file` becomes what the name `path` says: gzip, zstandard or plain."""
    if path.suffix == ".gz":
        return gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
    if path.suffix == ".zst":
        return zstandard.ZstdCompressor().stream_writer(file, closefd=False)
    return nullcontext(file)
