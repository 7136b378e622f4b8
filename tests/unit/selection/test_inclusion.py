"""Inclusion probabilities against enumeration, and their standard errors against repeated sampling."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ragdro.selection.inclusion import inclusion, standard_errors

LISTS = list(permutations(range(4), 2))


def probabilities(seed: int, sharpness: float = 1.0) -> np.ndarray:
    p = np.exp(sharpness * np.random.default_rng(seed).normal(size=len(LISTS)))
    return p / p.sum()


def test_numbers_worked_by_hand() -> None:
    lists, weights = [(0, 1), (0, 2), (0, 1), (2, 1)], [1.0, 1.0, 1.0, 1.0]
    assert inclusion(lists, weights, 4).tolist() == [0.75, 0.75, 0.5, 0.0]
    # p (1 - p) / (m - 1): 3/16 / 3, twice, 1/4 / 3, and 0
    assert standard_errors(lists, weights, 4) == pytest.approx([0.25, 0.25, np.sqrt(1 / 12), 0.0])
    # Weights 3/4 and 1/4: 2 * (9/16 * 1/16 + 1/16 * 9/16)
    assert inclusion([(0,), (1,)], [3.0, 1.0], 2) == pytest.approx([0.75, 0.25])
    assert standard_errors([(0,), (1,)], [3.0, 1.0], 2) == pytest.approx([0.375, 0.375])
    assert np.isinf(standard_errors([(0,)], [1.0], 2)).all()


def test_all_lists_with_their_probabilities_are_exact() -> None:
    p = probabilities(0)
    expected = [sum(p[i] for i, z in enumerate(LISTS) if d in z) for d in range(4)]
    estimates = inclusion(LISTS, p.tolist(), 4)
    assert estimates == pytest.approx(expected) and estimates.sum() == pytest.approx(2)


@pytest.mark.parametrize("seed", range(20))
def test_a_passage_of_every_list_is_in_the_list_for_certain(seed: int) -> None:
    """To the last digit: what is nearly 1 is shown as such."""
    p = probabilities(seed)
    whole = inclusion([(*z, 4) for z in LISTS] + [(0, 1)], [*p.tolist(), 0.0], 5)
    assert whole[4] == 1.0 and whole[:4] == pytest.approx(inclusion(LISTS, p.tolist(), 4))


@pytest.mark.parametrize("importance", [False, True])
def test_estimates_scatter_about_the_truth_by_their_standard_error(importance: bool) -> None:
    """2,000 times 120 lists drawn from p, or from another q weighted by p/q (biased by order 1/m)."""
    p, rng, m = probabilities(1), np.random.default_rng(2), 120
    q = probabilities(1, 0.5) if importance else p
    estimates, errors = [], []
    for _ in range(2000):
        drawn = rng.choice(len(LISTS), m, p=q)
        lists, weights = [LISTS[i] for i in drawn], (p / q)[drawn].tolist()
        estimates.append(inclusion(lists, weights, 4))
        errors.append(standard_errors(lists, weights, 4))
    truth = inclusion(LISTS, p.tolist(), 4)
    scatter = np.std(estimates, axis=0)
    assert np.mean(estimates, axis=0) == pytest.approx(truth, abs=0.005)
    assert np.sqrt(np.mean(np.square(errors), axis=0)) == pytest.approx(scatter, rel=0.06)
