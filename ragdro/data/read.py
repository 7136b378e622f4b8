"""Reading any recognised source as questions or as passages, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ragdro.data import beir, hub, loose, own, psgs_tsv, squad, twowiki
from ragdro.data.containers import Container, Raw, Source, raw_records, to_record
from ragdro.data.formats import CORPUS_FORMATS, QUESTION_FORMATS, Format, recognise
from ragdro.data.loose import NO_NAMES, FieldNames
from ragdro.data.record import Record
from ragdro.data.stream import lines
from ragdro.errors import DataError
from ragdro.types import Candidates, Passage, Question

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_UNANSWERABLE = "unanswerable questions"


def _mending(skipped: int) -> str:
    more = f"more than {skipped} of such records" if skipped else "such records"
    return f"mend it, or pass over {more}: data.skip_bad={skipped + 1}, or --skip-bad {skipped + 1}"


ALIAS_FILE = "id_aliases.json"
"""2WikiMultiHopQA's alias file, taken from beside the data where no other is named."""


class Reading(Iterator[_T], Generic[_T]):
    """An iterator over what a source holds, that tolerates up to `skip_bad` bad records.

    `format` is what the source was recognised as, `skipped` the errors of the records left out so far
    (each is logged as a warning too). The bad record after the last tolerated one raises its error. Records
    that `read` makes None of are left out; their number is logged at the end, as so many `left_out`.
    """

    def __init__(
        self,
        source_format: Format,
        source: Source,
        raw: Iterable[tuple[int, Raw]],
        read: Callable[[Raw, int, int], _T | None],
        skip_bad: int,
        left_out: str = "records",
    ) -> None:
        self.format = source_format
        self.skipped: list[DataError] = []
        self._source, self._read, self._skip_bad = source, read, skip_bad
        self._raw = enumerate(raw)
        self._count = self._left_out = 0
        self._called = left_out

    def __next__(self) -> _T:
        for position, (line, raw) in self._raw:
            try:
                value = self._read(raw, line, position)
            except DataError as error:
                if len(self.skipped) >= self._skip_bad:
                    raise error.advised(_mending(self._skip_bad)) from error
                self.skipped.append(error)
                _log.warning("skipped a bad record: %s", error)
                continue
            if value is None:
                self._left_out += 1
                continue
            self._count += 1
            return value
        if self._left_out:
            _log.warning("%s: %d %s left out", self._source, self._left_out, self._called)
            self._left_out = 0
        if not self._count:
            held = "no passages" if self.format.kind == "corpus" else "no questions"
            raise DataError(held, path=self._source)
        raise StopIteration


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to read and how: the source's raw records and the function from one to its question."""

    format: Format
    source: Source
    raw: Iterable[tuple[int, Raw]]
    read: Callable[[Raw, int, int], tuple[Record, Question]]


def read_questions(
    source: Source,
    *,
    skip_bad: int = 0,
    aliases: str | Path | None = None,
    fields: FieldNames | None = None,
) -> Reading[Question]:
    """The questions of `source`, in its order, streamed.

    `skip_bad` is how many bad records to leave out before giving up. `aliases` is 2WikiMultiHopQA's
    alias file (by default the `id_aliases.json` beside the data, where there is one). `fields` are the
    user's names for our fields (`ragdro.data.loose`). Answers may be absent here. Raises DataError, naming
    file, line and field, on a bad record and where there is no question at all; the iteration raises too.
    """
    plan = _plan(source, aliases, fields or NO_NAMES)

    def read(raw: Raw, line: int, position: int) -> Question:
        return plan.read(raw, line, position)[1]

    return Reading(plan.format, plan.source, plan.raw, read, skip_bad)


def read_gold(
    source: Source,
    *,
    skip_bad: int = 0,
    aliases: str | Path | None = None,
    fields: FieldNames | None = None,
) -> Reading[tuple[Record, Question]]:
    """As `read_questions`, each question with the record it was read from (for the official scores).

    SQuAD 2.0's unanswerable questions are left out, and counted in a warning.
    """
    plan = _plan(source, aliases, fields or NO_NAMES)

    def read(raw: Raw, line: int, position: int) -> tuple[Record, Question] | None:
        record, question = plan.read(raw, line, position)
        return None if _is_unanswerable(question, plan.format) else (record, question)

    return Reading(plan.format, plan.source, plan.raw, read, skip_bad, left_out=_UNANSWERABLE)


def _is_unanswerable(question: Question, source_format: Format) -> bool:
    """Whether a question has no answers because its data set says that there is none (SQuAD 2.0)."""
    return source_format.name == squad.NAME and not question.answers


def _plan(source: Source, aliases: str | Path | None, fields: FieldNames) -> _Plan:
    source_format = recognise(source, fields)
    if source_format.kind == "corpus":
        raise DataError(
            f"holds a corpus ({source_format.name}), not questions; is it data.corpus?", path=source
        )
    if source_format.name == "beir" and source_format.container in ("folder", "tsv"):
        return _beir_plan(source_format, Path(source))
    schema = next(entry for entry in QUESTION_FORMATS if entry.name == source_format.name)
    names = alias_map(source, aliases) if source_format.name == "2wikimultihopqa" else {}
    named = fields if source_format.name == loose.NAME else NO_NAMES

    def read(raw: Raw, line: int, position: int) -> tuple[Record, Question]:
        record = to_record(raw, source, line, position)
        question = loose.question(record, named) if named else schema.read(record)
        return record, twowiki.with_aliases(question, record, names) if names else question

    return _Plan(source_format, source, raw_records(source, source_format.container), read)


def alias_map(source: Source, named: str | Path | None = None) -> twowiki.Aliases:
    """2WikiMultiHopQA's aliases for the data `source`: of the file `named`, or of the `id_aliases.json`
    beside the data; empty without either. Raises DataError."""
    if named is not None:
        return twowiki.read_aliases(Path(named))
    beside = Path(source).with_name(ALIAS_FILE)
    if hub.is_hub_name(source) or not beside.is_file():
        return {}
    _log.info("answer aliases from %s", beside)
    return twowiki.read_aliases(beside)


def _beir_plan(source_format: Format, path: Path) -> _Plan:
    folder = path if source_format.container == "folder" else path.parent.parent
    qrels = beir.read_qrels(beir.default_qrels(folder) if path == folder else path)
    documents = beir.judged_documents(beir.member(folder, "corpus.jsonl"), qrels)
    queries = beir.member(folder, "queries.jsonl")

    def read(raw: Raw, line: int, position: int) -> tuple[Record, Question]:
        record = to_record(raw, queries, line, position)
        judged = qrels.get(record.identifier("_id"), {})
        best_first = sorted(judged, key=judged.__getitem__, reverse=True)
        return record, beir.question(record, (documents[one] for one in best_first if one in documents))

    return _Plan(replace(source_format, kind="questions"), queries, _judged(queries, qrels), read)


def _judged(queries: Path, qrels: Mapping[str, object]) -> Iterator[tuple[int, Raw]]:
    """The lines of the queries that are judged; says at the end which judged ones are not there."""
    missing = set(qrels)
    for line, raw in lines(queries):
        name = to_record(raw, queries, line, 0).identifier("_id")
        if name in qrels:
            missing.discard(name)
            yield line, raw
    if missing:
        _log.warning(
            "%s: lacks %d of %d judged queries, such as %r", queries, len(missing), len(qrels), min(missing)
        )


def read_corpus(source: Source, *, skip_bad: int = 0, fields: FieldNames | None = None) -> Reading[Passage]:
    """The passages of `source`, in its order, streamed with flat memory (ids are not checked for repeats).

    `fields` are the user's names for our fields. BEIR's empty documents are left out, and counted in a
    warning. Raises DataError, naming file, line and field, on a bad record and where there is no passage at
    all; the iteration raises too.
    """
    named = fields or NO_NAMES
    source_format = recognise(source, named, as_corpus=True)
    if source_format.kind == "questions":
        raise DataError(
            f"holds questions ({source_format.name}), not a corpus; are they data.train?", path=source
        )
    if source_format.name == "psgs-w100":
        return _tsv_corpus(source_format, Path(source), skip_bad)
    where: Source = source
    if source_format.container == "folder":
        where = beir.member(Path(source), "corpus.jsonl")
    schema = next(entry for entry in CORPUS_FORMATS if entry.name == source_format.name)
    named = named if source_format.name == loose.NAME else NO_NAMES

    def read(raw: Raw, line: int, position: int) -> Passage | None:
        record = to_record(raw, where, line, position)
        if source_format.name == "beir" and beir.is_empty(record):
            return None
        return loose.passage(record, named) if named else schema.read(record)

    as_corpus = replace(source_format, kind="corpus")
    container: Container = "jsonl" if source_format.container == "folder" else source_format.container
    raw = raw_records(where, container)
    return Reading(as_corpus, where, raw, read, skip_bad, left_out="empty documents")


def _tsv_corpus(source_format: Format, path: Path, skip_bad: int) -> Reading[Passage]:
    rows = lines(path)
    read_row = psgs_tsv.row_reader(next(rows)[1])

    def read(raw: Raw, line: int, position: int) -> Passage:
        assert isinstance(raw, bytes)  # what `lines` gives
        return read_row(raw, path, line)

    return Reading(source_format, path, rows, read, skip_bad)


def load_questions(
    source: Source,
    *,
    skip_bad: int = 0,
    aliases: str | Path | None = None,
    fields: FieldNames | None = None,
) -> list[Question]:
    """All questions of `source`, to train or evaluate on.

    SQuAD 2.0's unanswerable questions are left out, and counted in a warning. Raises DataError as
    `read_questions` does, and on an id that repeats or any other question without answers.
    """
    questions: list[Question] = []
    seen: set[str] = set()
    unanswerable = 0
    reading = read_questions(source, skip_bad=skip_bad, aliases=aliases, fields=fields)
    for question in reading:
        if _is_unanswerable(question, reading.format):
            unanswerable += 1
            continue
        if not question.answers:
            raise DataError(
                f"question '{question.id}' has no answers; fill them in, or leave it out of the file",
                path=source,
                field="answers",
            )
        if question.id in seen:
            raise DataError(
                f"question id '{question.id}' appears twice; make the ids unique, or leave them out",
                path=source,
                field="id",
            )
        seen.add(question.id)
        questions.append(question)
    if unanswerable:
        _log.warning("%s: %d %s left out", source, unanswerable, _UNANSWERABLE)
    if not questions:
        raise DataError("no question has an answer", path=source)
    return questions


def resolve_candidates(questions: Iterable[Question], corpus: Mapping[str, Passage]) -> Iterator[Question]:
    """`questions` with candidates that were given as corpus ids filled in from `corpus` (id → passage).

    Raises DataError for an id that the corpus does not have.
    """
    for question in questions:
        given = question.candidates
        if given is None or not any(own.is_reference(entry) for entry in given.passages):
            yield question
            continue
        unknown = [e.id for e in given.passages if own.is_reference(e) and e.id not in corpus]
        if unknown:
            raise DataError(f"candidate '{unknown[0]}' of question '{question.id}' is not in the corpus")
        passages = tuple(corpus[e.id] if own.is_reference(e) else e for e in given.passages)
        yield replace(question, candidates=Candidates(given.question_id, passages, given.scores))
