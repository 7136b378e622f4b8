"""DPR's files (facebookresearch/DPR): retriever training data and retrieval results, both JSON lists.

Retriever: `{"question", "answers", "positive_ctxs", "negative_ctxs", "hard_negative_ctxs"}`; results:
`{"question", "answers", "ctxs": [{"id", "title", "text", "score", "has_answer"}]}`. Neither has ids: a
question's is `dpr-N`, N counting the file's records from 0. `has_answer` is a string match, not a gold
label, and is not read.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Candidates, Passage, Question

_GOLD = {"positive_ctxs": True, "hard_negative_ctxs": False, "negative_ctxs": False}


def is_question(fields: Fields) -> bool:
    """A question with contexts under one of DPR's names."""
    return "question" in fields and ("ctxs" in fields or "positive_ctxs" in fields)


def _context(record: Record, default_id: str, gold: bool | None) -> Passage:
    named = next((key for key in ("id", "passage_id", "psg_id") if record.has(key)), None)
    title, text = record.string("title"), record.text("text")
    return Passage(default_id if named is None else record.identifier(named), title, text, gold)


def question(record: Record) -> Question:
    """One question: training contexts become passages (positives gold), results become candidates."""
    question_id = record.identifier("id") if record.has("id") else f"dpr-{record.position}"
    passages = tuple(
        _context(entry, f"{question_id}:{kind}:{index}", gold)
        for kind, gold in _GOLD.items()
        for index, entry in enumerate(record.records(kind))
    )
    contexts = record.records("ctxs")
    candidates = None
    if contexts:
        scored = all(entry.has("score") for entry in contexts)
        candidates = Candidates(
            question_id,
            tuple(_context(entry, f"{question_id}:{index}", None) for index, entry in enumerate(contexts)),
            tuple(entry.number("score") for entry in contexts) if scored else None,
        )
    return Question(question_id, record.text("question"), record.answers("answers"), passages, candidates)
