"""Our own JSONL: questions with answers, passages, candidates and rankings; corpora of passages.

A question: `{"id", "question", "answers": [str], "passages": [{"id"?, "title", "text", "gold"?}],
"candidates": [{"id"?, "title", "text", "score"?}] or [corpus id], "ranking": [passage id], "hops": n,
"queries": [str], "standalone": str}`; everything after `answers` is optional. A passage of a corpus: `{"id",
"title"?, "text", "source"?}`. Unknown fields are ignored, and so is a `source` that is not of the form that
`ragdro ingest` writes.
"""

from __future__ import annotations

from typing import Any

from ragdro.data.record import Fields, Record
from ragdro.types import Candidates, Passage, PassageSource, Question

_NUMBERS = ("start", "end", "page", "slide", "row")


def is_question(fields: Fields) -> bool:
    """Any record with a question that no other format claims."""
    return "question" in fields


def is_passage(fields: Fields) -> bool:
    """A record with an id and a text, and no question."""
    return "id" in fields and "text" in fields and "question" not in fields


def passage(record: Record, default_id: str | None = None) -> Passage:
    """A passage; `default_id` names it where the record has no id. Title or text may be empty, not both."""
    title, text = record.string("title"), record.string("text")
    if not text.strip() and not title.strip():
        raise record.error("is empty", "text")
    named = default_id if default_id is not None and not record.has("id") else record.identifier("id")
    return Passage(named, title, text, record.flag("gold"), passage_source(record.fields.get("source")))


def passage_source(value: object) -> PassageSource | None:
    """The source in a JSON value; None for anything else, as other data have a `source` of their own."""
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return None
    numbers: dict[str, Any] = {name: value.get(name) for name in _NUMBERS}
    required = numbers["start"] is not None and numbers["end"] is not None
    if not required or not all(n is None or type(n) is int for n in numbers.values()):
        return None
    return PassageSource(value["path"], **numbers)


def source_object(source: PassageSource) -> dict[str, object]:
    """The inverse of `passage_source`: JSON values, only what is known."""
    numbers = {name: getattr(source, name) for name in _NUMBERS}
    return {"path": source.path, **{name: n for name, n in numbers.items() if n is not None}}


def reference(corpus_id: str) -> Passage:
    """A passage of which only the id is known; `resolve_candidates` fills in what the corpus says."""
    return Passage(corpus_id, "", "")


def is_reference(passage: Passage) -> bool:
    """Whether a passage is an id alone: no reader lets a real one have neither title nor text."""
    return not passage.title and not passage.text


def candidates(record: Record, question_id: str) -> Candidates | None:
    """The top-N list that came with a question; None without one. Scores must be on all or on none."""
    values = record.items("candidates")
    if not values:
        return None
    if all(isinstance(value, (str, int)) for value in values):
        return Candidates(question_id, tuple(reference(_corpus_id(record, i)) for i in range(len(values))))
    entries = record.records("candidates")
    passages = tuple(passage(entry, f"{question_id}:c{i}") for i, entry in enumerate(entries))
    scored = [entry for entry in entries if entry.has("score")]
    if not scored:
        return Candidates(question_id, passages)
    if len(scored) < len(entries):
        raise record.error("has scores on some entries and not on others", "candidates")
    return Candidates(question_id, passages, tuple(entry.number("score") for entry in entries))


def _corpus_id(record: Record, index: int) -> str:
    value = record.items("candidates")[index]
    if isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        raise record.error("must be a corpus id", f"candidates[{index}]")
    return str(value)


def question(record: Record) -> Question:
    """One question. Answers may be absent (they are not needed to retrieve); `load_questions` wants them."""
    question_id = record.identifier("id") if record.has("id") else f"question-{record.position}"
    passages = tuple(
        passage(entry, f"{question_id}:{index}") for index, entry in enumerate(record.records("passages"))
    )
    ranking = record.texts("ranking") if record.has("ranking") else None
    hops = record.fields.get("hops")
    if hops is not None and (not isinstance(hops, int) or isinstance(hops, bool) or hops < 1):
        raise record.error("must be a whole number from 1", "hops")
    return Question(
        id=question_id,
        question=record.text("question"),
        answers=record.answers("answers"),
        passages=passages,
        candidates=candidates(record, question_id),
        ranking=ranking,
        hops=hops,
        queries=record.texts("queries") if record.has("queries") else None,
        standalone=record.text("standalone") if record.has("standalone") else None,
    )


def corpus_passage(record: Record) -> Passage:
    """One passage of a corpus; its id must be there."""
    return passage(record)
