"""MuSiQue JSONL (StonyBrookNLP/musique): `{"id", "question", "answer", "answer_aliases", "answerable",
"paragraphs": [{"idx", "title", "paragraph_text", "is_supporting"}], "question_decomposition"}`.

Aliases follow the answer; the steps of the decomposition are counted as hops, and those after the first are
the follow-up queries, with the answers of earlier steps in place of `#1`, `#2`, …. MuSiQue-Full has every
question twice under one id, answerable and not; `read_questions` gives both, and `load_questions`, which
wants ids that differ, refuses it and says so.
"""

from __future__ import annotations

import re
from functools import partial

from ragdro.data.record import Fields, Record
from ragdro.types import Passage, Question

_REFERENCE = re.compile(r"#(\d+)")
"""The answer of an earlier step, in a step's question."""


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
    steps = record.records("question_decomposition")
    return Question(
        question_id,
        record.text("question"),
        answers,
        tuple(passages),
        hops=len(steps) or None,
        queries=_follow_up_queries(steps) if steps else None,
    )


def _follow_up_queries(steps: list[Record]) -> tuple[str, ...]:
    """The questions of the steps after the first; `Arlen >> founded by` becomes `Arlen founded by`. A number
    that is not of an earlier step is no reference (`the #1 single`)."""
    return tuple(
        _REFERENCE.sub(partial(_answer, steps[:i]), step.text("question").replace(" >> ", " ")).strip()
        for i, step in enumerate(steps)
        if i
    )


def _answer(earlier: list[Record], reference: re.Match[str]) -> str:
    number = int(reference[1])
    return earlier[number - 1].text("answer") if 1 <= number <= len(earlier) else reference[0]
