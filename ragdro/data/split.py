"""One file of questions into two: some to train on, some to choose the best iteration by.

In: questions and a fraction. Out: both parts, in the questions' own order. Which question goes where depends
on its text alone, so that the same question never stands in both and a file that grows keeps its parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from ragdro.errors import DataError
from ragdro.types import Question

_STEPS = 2**32


def split(questions: Sequence[Question], fraction: float) -> tuple[list[Question], list[Question]]:
    """Those to train on and about `fraction` of them to validate with.

    Raises `DataError` where either would be empty.
    """
    held = [zlib.crc32(_text(q).encode()) < fraction * _STEPS for q in questions]
    if questions and not any(held):  # of a few questions none may fall under it
        first = min(range(len(questions)), key=lambda i: zlib.crc32(_text(questions[i]).encode()))
        held = [_text(q) == _text(questions[first]) for q in questions]
    parts = ([q for q, out in zip(questions, held, strict=True) if out is wanted] for wanted in (False, True))
    train, validation = parts
    if not (train and validation):
        raise DataError(f"{len(questions)} questions are too few to split; give a validation file")
    return train, validation


def _text(question: Question) -> str:
    return " ".join(question.question.lower().split())
