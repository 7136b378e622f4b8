"""MuSiQue JSONL (StonyBrookNLP/musique): `{"id", "question", "answer", "answer_aliases", "answerable",
"paragraphs": [{"idx", "title", "paragraph_text", "is_supporting"}], "question_decomposition"}`.

Aliases follow the answer; the steps of the decomposition are counted as hops. MuSiQue-Full has every
question twice under one id, answerable and not; `read_questions` gives both, and `load_questions`, which
wants ids that differ, refuses it and says so.
"""

from __future__ import annotations

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question


def is_question(fields: Fields) -> bool:
    """A question with `paragraphs`."""
    return "question" in fields and "paragraphs" in fields


def question(record: Record) -> Question:
    """One question with its paragraphs; test files have no answer."""
    question_id = record.identifier("id")
    passages = []
    for paragraph in record.records("paragraphs"):
        named = f"{question_id}:{paragraph.identifier('idx')}"
        title, text = paragraph.string("title"), paragraph.text("paragraph_text")
        passages.append(Passage(named, title, text, paragraph.flag("is_supporting")))
    aliases = (alias for alias in record.items("answer_aliases") if isinstance(alias, str) and alias.strip())
    answers = tuple(dict.fromkeys((*record.answers("answer"), *aliases)))
    steps = len(record.items("question_decomposition")) or None
    return Question(question_id, record.text("question"), answers, tuple(passages), hops=steps)
