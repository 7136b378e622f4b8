"""Which format a source is in, decided by what it holds: the formats' registry, and `recognise`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from ragdro.data import (
    beir,
    dpr,
    dro_authors,
    flashrag,
    hotpotqa,
    hub,
    kilt,
    musique,
    nq_open,
    own,
    psgs_tsv,
    twowiki,
    wizard,
)
from ragdro.data.record import Fields, Record, parse
from ragdro.data.stream import Compression, compression_of, elements, lines
from ragdro.errors import DataError
from ragdro.types import Passage, Question

Source: TypeAlias = str | Path
Kind: TypeAlias = Literal["questions", "corpus", "both"]
Container: TypeAlias = Literal["jsonl", "json list", "tsv", "folder", "hub"]
Raw: TypeAlias = bytes | dict[str, object]
"""A record before it is read: a line or list element, or a row of a Hugging Face dataset."""

_PEEKED = 10


@dataclass(frozen=True, slots=True)
class QuestionFormat:
    """How the questions of one format are told apart (by field names) and read."""

    name: str
    matches: Callable[[Fields], bool]
    read: Callable[[Record], Question]


@dataclass(frozen=True, slots=True)
class CorpusFormat:
    """How the passages of one format are told apart (by field names) and read."""

    name: str
    matches: Callable[[Fields], bool]
    read: Callable[[Record], Passage]


# The first that matches is taken: formats with fields of their own come before those without.
QUESTION_FORMATS = (
    QuestionFormat("kilt", kilt.is_question, kilt.question),
    QuestionFormat("musique", musique.is_question, musique.question),
    QuestionFormat("wizard-of-wikipedia", wizard.is_question, wizard.question),
    QuestionFormat("dro-authors", dro_authors.is_question, dro_authors.question),
    QuestionFormat("dpr", dpr.is_question, dpr.question),
    QuestionFormat("flashrag", flashrag.is_question, flashrag.question),
    QuestionFormat("2wikimultihopqa", twowiki.is_question, twowiki.question),
    QuestionFormat("hotpotqa", hotpotqa.is_question, hotpotqa.question),
    QuestionFormat("nq-open", nq_open.is_question, nq_open.question),
    QuestionFormat("own", own.is_question, own.question),
    QuestionFormat("beir", beir.is_question, beir.question),
)
CORPUS_FORMATS = (
    CorpusFormat("flashrag", flashrag.is_passage, flashrag.passage),
    CorpusFormat("own", own.is_passage, own.corpus_passage),
    CorpusFormat("beir", beir.is_passage, beir.passage),
)


@dataclass(frozen=True, slots=True)
class Format:
    """What a source was recognised as. `kind` says what can be read from it."""

    name: str
    kind: Kind
    container: Container
    compression: Compression = "none"

    def __str__(self) -> str:
        packed = "" if self.compression == "none" else f", {self.compression}"
        holds = "questions and corpus" if self.kind == "both" else self.kind
        return f"{self.name} ({holds}, {self.container}{packed})"


def raw_records(source: Source, container: Container) -> Iterator[tuple[int, Raw]]:
    """The records of a source before they are read, each with its line (row, for a dataset)."""
    if container == "hub":
        return hub.rows(str(source))
    return elements(Path(source)) if container == "json list" else lines(Path(source))


def to_record(raw: Raw, source: Source, line: int, position: int) -> Record:
    """The record in `raw`; raises DataError where it is not a JSON object."""
    if isinstance(raw, bytes):
        return parse(raw, source, line, position)
    return Record(raw, source, line, position)


def recognise(source: Source) -> Format:
    """What `source` (a path, a BEIR folder or an `hf:` name) is, from its first records.

    Records that cannot be parsed are passed over, up to ten of them. Raises DataError for a source that
    is missing, empty, unreadable or in no format that we know.
    """
    if hub.is_hub_name(source):
        name, kind = _by_fields(source, "hub")
        return Format(name, kind, "hub")
    path = Path(source)
    if path.is_dir():
        beir.member(path, "corpus.jsonl"), beir.member(path, "queries.jsonl")
        return Format("beir", "both", "folder")
    compression = compression_of(path)
    line, head = next(lines(path), (0, b""))
    if not line:
        raise DataError("is empty", path=path)
    if beir.is_qrels_header(head):
        return Format("beir", "questions", "tsv", compression)
    if psgs_tsv.is_header(head):
        return Format("psgs-w100", "corpus", "tsv", compression)
    container: Container = "json list" if head.lstrip()[:1] == b"[" else "jsonl"
    name, kind = _by_fields(path, container)
    return Format(name, kind, container, compression)


def _by_fields(source: Source, container: Container) -> tuple[str, Kind]:
    problem: DataError | None = None
    for position, (line, raw) in enumerate(islice(raw_records(source, container), _PEEKED)):
        try:
            record = to_record(raw, source, line, position)
        except DataError as error:
            problem = problem or error
            continue
        for question_format in QUESTION_FORMATS:
            if question_format.matches(record.fields):
                return question_format.name, "questions"
        for corpus_format in CORPUS_FORMATS:
            if corpus_format.matches(record.fields):
                return corpus_format.name, "corpus"
        problem = problem or _unknown(source, line, record.fields)
    raise problem or DataError("holds no records", path=source)


def _unknown(source: Source, line: int, fields: Fields) -> DataError:
    names = ", ".join(str(name)[:40] for name in list(fields)[:12]) or "none"
    known = ", ".join(sorted({entry.name for entry in (*QUESTION_FORMATS, *CORPUS_FORMATS)} | {"psgs-w100"}))
    return DataError(
        f"is in no format that we read (fields: {names}; formats: {known})", path=source, line=line
    )
