"""Which format a source is in, decided by what it holds: the formats' registry, and `recognise`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from ragdro.data import (
    beir,
    documents,
    dpr,
    dro_authors,
    flashrag,
    guess,
    hotpotqa,
    hub,
    kilt,
    loose,
    musique,
    nq_open,
    own,
    psgs_tsv,
    squad,
    twowiki,
    wizard,
)
from ragdro.data.containers import NAMES, Container, Source, container_of, raw_records, to_record
from ragdro.data.loose import NO_NAMES, FieldNames
from ragdro.data.record import Fields, Record
from ragdro.data.stream import Compression, compression_of, lines
from ragdro.errors import DataError
from ragdro.types import Passage, Question

Kind: TypeAlias = Literal["questions", "corpus", "both"]

_PEEKED = 10


@dataclass(frozen=True, slots=True)
class QuestionFormat:
    """How the questions of one format are distinguished (by field names) and read."""

    name: str
    matches: Callable[[Fields], bool]
    read: Callable[[Record], Question]


@dataclass(frozen=True, slots=True)
class CorpusFormat:
    """How the passages of one format are distinguished (by field names) and read."""

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
    QuestionFormat(squad.NAME, squad.is_question, squad.question),
    QuestionFormat("2wikimultihopqa", twowiki.is_question, twowiki.question),
    QuestionFormat("hotpotqa", hotpotqa.is_question, hotpotqa.question),
    QuestionFormat("nq-open", nq_open.is_question, nq_open.question),
    QuestionFormat(loose.NAME, loose.is_question, loose.question),
    QuestionFormat("own", own.is_question, own.question),
    QuestionFormat("beir", beir.is_question, beir.question),
)
CORPUS_FORMATS = (
    CorpusFormat("flashrag", flashrag.is_passage, flashrag.passage),
    CorpusFormat("own", own.is_passage, own.corpus_passage),
    CorpusFormat("beir", beir.is_passage, beir.passage),
    CorpusFormat(loose.NAME, loose.is_passage, loose.passage),
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


def recognise(source: Source, fields: FieldNames = NO_NAMES, *, as_corpus: bool = False) -> Format:
    """What `source` (a path, a BEIR folder or an `hf:` name) is, from its first records.

    `fields` are the user's names for our fields (`ragdro.data.loose`): what has them is read by them;
    `as_corpus` says that an unknown file is meant to be one, for the command that its refusal names. Records
    that cannot be parsed are passed over, up to ten of them. Raises DataError for a source that is missing,
    empty, unreadable or in no format that we know.
    """
    loose.check_names(fields)
    if hub.is_hub_name(source):
        return Format(*_by_fields(source, "hub", fields, as_corpus=as_corpus), "hub")
    path = Path(source)
    if path.is_dir() and any(path.glob("corpus.jsonl*")):
        beir.member(path, "corpus.jsonl"), beir.member(path, "queries.jsonl")
        return Format("beir", "both", "folder")
    compression: Compression = "none" if path.is_dir() else compression_of(path)
    container = container_of(path, {*loose.COLUMNS, *fields.values()})
    if container in ("jsonl", "csv", "tsv"):
        head = next(lines(path))[1]
        if beir.is_qrels(path, head):
            return Format("beir", "questions", "tsv", compression)
        if psgs_tsv.is_header(head) and not loose.names_passage(fields):
            return Format("psgs-w100", "corpus", "tsv", compression)
    return Format(*_by_fields(path, container, fields, as_corpus=as_corpus), container, compression)


def _by_fields(
    source: Source, container: Container, names: FieldNames, *, as_corpus: bool
) -> tuple[str, Kind]:
    problem: DataError | None = None
    unknown: list[tuple[int, Fields]] = []
    for position, (line, raw) in enumerate(islice(raw_records(source, container), _PEEKED)):
        try:
            fields = to_record(raw, source, line, position).fields
        except DataError as error:
            problem = problem or error
            continue
        name_and_kind = _by_names(fields, names) or _by_format(fields)
        if name_and_kind is not None:
            return name_and_kind
        unknown.append((line, fields))
    if unknown and (problem is None or problem.line is None or unknown[0][0] < problem.line):
        raise _unknown(source, container, unknown, as_corpus=as_corpus)
    if problem is not None:
        raise problem.advised(documents.advice(source) or documents.READ)
    raise DataError("holds no records; name a file with some", path=source)


def _by_names(fields: Fields, names: FieldNames) -> tuple[str, Kind] | None:
    """What the user's names make of a record; None where they name nothing of it."""
    if loose.names_question(names) and loose.has(fields, "question", names):
        return loose.NAME, "questions"
    if loose.names_passage(names) and loose.has(fields, "text", names):
        return loose.NAME, "corpus"
    return None


def _by_format(fields: Fields) -> tuple[str, Kind] | None:
    for question_format in QUESTION_FORMATS:
        if question_format.matches(fields):
            return question_format.name, "questions"
    for corpus_format in CORPUS_FORMATS:
        if corpus_format.matches(fields):
            return corpus_format.name, "corpus"
    return None


def _unknown(
    source: Source, container: Container, records: list[tuple[int, Fields]], *, as_corpus: bool
) -> DataError:
    """What a source in no known format is, with the command that reads it."""
    line, first = records[0]
    held = "columns" if container in ("csv", "tsv", "parquet", "arrow", "saved dataset", "hub") else "fields"
    names = ", ".join(" ".join(str(name)[:40].split()) for name in list(first)[:12]) or "none"
    seen = [fields for _, fields in records]
    guessed = guess.guess(seen, as_corpus=as_corpus)
    called = guessed or guess.by_order(seen, as_corpus=as_corpus)
    if called:
        how = f"If {_and(called)}: `{guess.command(source, called)}`, or data.fields in a config"
        how += "" if guessed else f"; if not, name other {held} in it"
    else:
        how = f"None of these {held} holds a text; name a file with questions and answers, or with passages"
    return DataError(
        f"is in no format that we read: {NAMES[container]} with {held} {names}. {how}", path=source, line=line
    )


def _and(names: Mapping[str, str]) -> str:
    """'frage is the question and antwort the answers'."""
    (ours, theirs), *rest = names.items()
    called = [f"{theirs} is the {ours}", *(f"{theirs} the {ours.replace('_', ' ')}" for ours, theirs in rest)]
    return called[0] if not rest else f"{', '.join(called[:-1])} and {called[-1]}"
