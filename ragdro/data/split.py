"""One file of questions into two: some to train on, some to choose the best iteration by.

In: questions and a fraction. Out: both parts, in the questions' own order. Questions are ordered by a hash of
their text, and the first of them are held out, as many as come closest to the fraction. So the same question
never stands in both parts, the order of the file changes nothing, and of a file that grows only questions at
the border change their part.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

from ragdro.errors import DataError
from ragdro.types import Question
from ragdro.units import counted


def split(questions: Sequence[Question], fraction: float) -> tuple[list[Question], list[Question]]:
    """Those to train on and, as closely as whole questions allow, `fraction` of them to validate with.

    Raises `DataError` where either would be empty.
    """
    times = Counter(map(_text, questions))
    if len(times) < 2:
        number = counted(len(times), "different questions")
        raise DataError(f"{number} cannot be split; give a validation file")
    ordered = sorted(times, key=lambda text: (zlib.crc32(text.encode()), text))
    sizes = list(accumulate(times[text] for text in ordered[:-1]))  # by how many texts are held out
    held = min(range(len(sizes)), key=lambda i: abs(sizes[i] - fraction * len(questions)))
    out = set(ordered[: held + 1])
    return [q for q in questions if _text(q) not in out], [q for q in questions if _text(q) in out]


def _text(question: Question) -> str:
    return " ".join(question.question.lower().split())
