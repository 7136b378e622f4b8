"""Early stopping by hand: which iteration is best, and when enough have passed since."""

from __future__ import annotations

import pytest

from ragdro.training.patience import best_iteration, is_exhausted


@pytest.mark.parametrize(
    ("scores", "best", "exhausted"),
    [
        ([(0, 0.1)], 0, False),
        ([(0, 0.1), (1, 0.3), (2, 0.2)], 1, False),
        ([(0, 0.1), (1, 0.3), (2, 0.2), (3, 0.3)], 1, True),  # as good is no better
        ([(0, 0.1), (2, 0.3), (4, 0.2)], 2, True),  # measured every second time: two iterations passed
        ([(0, 0.1), (2, 0.3), (3, 0.2)], 2, False),  # the last of three
        ([(0, 0.3), (4, 0.4)], 4, False),
        ([(0, -float("inf")), (1, -float("inf"))], 0, False),
    ],
)
def test_patience_of_two(scores: list[tuple[int, float]], best: int, exhausted: bool) -> None:
    assert best_iteration(scores) == best
    assert is_exhausted(scores, 2) is exhausted
    assert not is_exhausted(scores, None) and not is_exhausted([], 2)
