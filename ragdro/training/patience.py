"""When a training stops before its last iteration. Loads no torch.

In: the scores of the stages measured so far, each with its iteration (0: the warm-up), in order. Out: the
best one, and whether to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Scores: TypeAlias = Sequence[tuple[int, float]]


def best_iteration(scores: Scores) -> int:
    """The iteration of the highest score, of equal ones the first. Raises ValueError where there is none."""
    return max(scores, key=lambda measured: (measured[1], -measured[0]))[0]


def is_exhausted(scores: Scores, patience: int | None) -> bool:
    """Whether at least `patience` iterations lie between the best one and the last one measured."""
    return patience is not None and bool(scores) and scores[-1][0] - best_iteration(scores) >= patience
