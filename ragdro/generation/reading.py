"""What a generator reads: a question and the passages to answer it from, in reading order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragdro.data.passages import PassageLike, as_passages
from ragdro.errors import DataError
from ragdro.types import Passage, Permutation, Question, Task, Thought


@dataclass(frozen=True, slots=True)
class Reading:
    """A question and the passages to answer it from, in reading order. `thought`: what was written before the
    answer, of a generator that thinks (None: nothing yet)."""

    question: Question
    passages: tuple[Passage, ...]
    thought: Thought | None = None

    @classmethod
    def of(cls, task: Task, permutation: Permutation, thought: Thought | None = None) -> Reading:
        """The question with the passages that a permutation selects, in its order."""
        return cls(task.question, tuple(task.candidates.passages[i] for i in permutation), thought)


def reading_of(question: str, passages: Sequence[PassageLike]) -> Reading:
    """A question in words with passages in any form. Raises `DataError` for one that is empty."""
    if not question.strip():
        raise DataError("question: is empty")
    return Reading(Question(question, question, ()), as_passages(passages))
