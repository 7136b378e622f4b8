"""From questions to questions with candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from ragdro.errors import DataError
from ragdro.system import Retrieve
from ragdro.types import Candidates, Question, Task

Splits: TypeAlias = tuple[list[Task], list[Task], list[Task] | None]
"""The training, validation and test questions with their candidates; None: there are no test questions."""
TOP_N = 20
"""Candidates a question has, where nothing else is said (the paper's N)."""


def tasks_of(
    questions: Sequence[Question | Task], retrieve: Retrieve | None = None, top_n: int = TOP_N
) -> list[Task]:
    """Each question with the first `top_n` of its candidates: those of a `Task`, else what `retrieve` finds,
    else the candidates or passages that the question came with.

    Raises `DataError` naming a question that has none of these.
    """
    bare = [q for q in questions if isinstance(q, Question)]
    retrieved = {} if retrieve is None else {c.question_id: c for c in retrieve(bare)}
    return [_task(q, retrieved.get(q.id), top_n) if isinstance(q, Question) else q for q in questions]


def _task(question: Question, retrieved: Candidates | None, top_n: int) -> Task:
    candidates = retrieved or question.candidates
    if candidates is None and question.passages:
        candidates = Candidates(question.id, question.passages)
    if candidates is None or not candidates.passages:
        raise DataError(f"question '{question.id}' has no candidates and no passages; pass retriever=...")
    scores = None if candidates.scores is None else candidates.scores[:top_n]
    return Task(question, replace(candidates, passages=candidates.passages[:top_n], scores=scores))
