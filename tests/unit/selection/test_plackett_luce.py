"""Plackett-Luce lists against formulas written out by hand and frequencies."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch

from ragdro.selection.plackett_luce import draw_lists, first_log_probs, greedy_list, list_log_probs

SCORES = [0.3, -1.0, 2.0, 0.7]
ENOUGH = 0.4


def by_hand(permutation: tuple[int, ...], most: int | None) -> float:
    """The product over places of exp(score) over the sum of what competes there."""
    weights, p = [math.exp(s) for s in SCORES], 1.0
    left = set(range(len(SCORES)))
    for place, index in enumerate(permutation):
        stop = math.exp(ENOUGH) if most is not None and place else 0.0
        p *= weights[index] / (sum(weights[i] for i in left) + stop)
        left -= {index}
    if most is not None and len(permutation) < most:
        p *= math.exp(ENOUGH) / (sum(weights[i] for i in left) + math.exp(ENOUGH))
    return math.log(p)


def lists_of(most: int, *, stop: bool) -> list[tuple[int, ...]]:
    lengths = range(1 if stop else most, most + 1)
    return [z for length in lengths for z in permutations(range(len(SCORES)), length)]


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("most", [1, 2, 4])
def test_log_probabilities_are_the_formulas_and_all_lists_have_probability_1(most: int, stop: bool) -> None:
    lists, of_stop = lists_of(most, stop=stop), most if stop else None
    scores = torch.tensor([*SCORES, ENOUGH], dtype=torch.float64)
    values = list_log_probs([scores], [lists], [of_stop])[0]
    assert values.tolist() == pytest.approx([by_hand(z, of_stop) for z in lists], abs=1e-12)
    assert float(values.exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("stop", [False, True])
def test_gradients_are_finite_differences(stop: bool) -> None:
    scores = torch.tensor([*SCORES, ENOUGH], dtype=torch.float64, requires_grad=True)
    lists = [(2, 0), (1, 3), (3, 2)] + [(2,)] * stop

    def total(values: torch.Tensor) -> torch.Tensor:
        weights = torch.arange(1, len(lists) + 1, dtype=torch.float64)
        return (weights * list_log_probs([values], [lists], [2 if stop else None])[0]).sum()

    (gradient,) = torch.autograd.grad(total(scores), scores)
    for i in range(len(scores)):
        step = torch.zeros(len(scores), dtype=torch.float64)
        step[i] = 1e-6
        slope = float(total(scores.detach() + step) - total(scores.detach() - step)) / 2e-6
        assert float(gradient[i]) == pytest.approx(slope, abs=1e-7)


def test_questions_of_unequal_size_are_computed_together_as_each_alone() -> None:
    own = ([*SCORES, ENOUGH], [1.5, -0.5, 0.2], [0.1, 0.9, -2.0, 0.4, 0.3, -0.7])
    lists = ([(2, 0), (1,), (3, 2)], [(1, 0)], [(4, 0, 2), (0, 1, 3)])
    most = (2, None, 3)

    def summed(values: list[torch.Tensor]) -> torch.Tensor:
        return sum((torch.arange(1, len(v) + 1) * v).sum() for v in values)  # type: ignore[return-value]

    scores = [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in own]
    together = list_log_probs(scores, lists, most)
    alone = [list_log_probs([s], [z], [m])[0] for s, z, m in zip(scores, lists, most, strict=True)]
    for mine, others in zip(together, alone, strict=True):
        assert mine.tolist() == pytest.approx(others.tolist(), abs=1e-12)
    gradients = zip(*(torch.autograd.grad(summed(v), scores) for v in (together, alone)), strict=True)
    for mine, others in gradients:
        assert mine.tolist() == pytest.approx(others.tolist(), abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("stop", [False, True])
def test_draws_have_the_probabilities_that_are_said_of_them(stop: bool, temperature: float) -> None:
    scores = np.array([*SCORES, ENOUGH if stop else -np.inf])
    uniforms = np.random.default_rng(0).random((40_000, 2))
    lists, log_q, log_p = draw_lists(scores, uniforms, 2, temperature)
    counts = Counter(lists)
    q = dict(zip(lists, np.exp(log_q), strict=True))
    assert set(counts) == set(lists_of(2, stop=stop))
    assert sum(q.values()) == pytest.approx(1, abs=1e-12)
    for z, count in counts.items():
        assert count / 40_000 == pytest.approx(q[z], abs=4 * math.sqrt(q[z] / 40_000))
    first = dict(zip(lists, log_p, strict=True))
    assert first == pytest.approx({z: by_hand(z, 2 if stop else None) for z in counts}, abs=1e-12)
    if temperature == 1:
        assert log_q == pytest.approx(log_p, abs=1e-12)
    else:
        assert log_q[0] != pytest.approx(log_p[0], abs=1e-3)


def test_greedy_takes_the_best_left_and_stops_where_that_is_as_probable_as_going_on() -> None:
    whole, p = greedy_list(np.array([*SCORES, -np.inf]), 3)
    assert whole == (2, 3, 0)
    assert math.log(p[0] * p[1] * p[2]) == pytest.approx(by_hand((2, 3, 0), None), abs=1e-12)
    assert greedy_list(np.array([1.0, 1.0, -np.inf]), 1)[0] == (0,)
    rest = math.log(sum(math.exp(s) for i, s in enumerate(SCORES) if i != 2))
    assert greedy_list(np.array([*SCORES, rest + 1e-9]), 3)[0] == (2,)
    assert greedy_list(np.array([*SCORES, rest - 1e-9]), 3)[0][:2] == (2, 3)
    assert greedy_list(np.array([*SCORES, 99.0]), 3)[0] == (2,)


def test_first_choices_leave_stopping_out() -> None:
    first = first_log_probs(np.array([*SCORES, 9.0]))
    assert first == pytest.approx([by_hand((i,), None) for i in range(4)], abs=1e-12)
