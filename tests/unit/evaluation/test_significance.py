"""Intervals and tests against closed forms, enumeration and known coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ragdro.errors import DataError
from ragdro.evaluation.significance import (
    bootstrap_interval,
    bootstrap_intervals,
    holm,
    paired_bootstrap,
    paired_permutation_test,
    student_interval,
    student_quantile,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_interval_has_the_width_of_the_normal_one() -> None:
    scores = np.array([1.0] * 120 + [0.0] * 280)
    interval = bootstrap_interval(scores, rng())
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert interval.mean == pytest.approx(0.3)
    assert interval.low == pytest.approx(0.3 - half, abs=0.005)
    assert interval.high == pytest.approx(0.3 + half, abs=0.005)


def test_the_interval_of_three_questions_is_that_of_all_27_resamples() -> None:
    scores = [0.0, 0.5, 1.0]
    means = [np.mean(drawn) for drawn in itertools.product(scores, repeat=3)]
    low, high = np.quantile(means, [0.1, 0.9])
    interval = bootstrap_interval(scores, rng(), resamples=40_000, level=0.8)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_the_interval_is_that_of_resampling_question_by_question() -> None:
    values = rng(2).random((37, 3))
    drawn = rng(11).integers(0, 37, size=(500, 37))  # the same stream, drawn here at once
    means = np.array([[values[row, column].mean() for column in range(3)] for row in drawn])
    low, high = np.quantile(means, [0.05, 0.95], axis=0)
    intervals = bootstrap_intervals(values, rng(11), resamples=500, level=0.9)
    assert [interval.low for interval in intervals] == pytest.approx(low, abs=1e-9)
    assert [interval.high for interval in intervals] == pytest.approx(high, abs=1e-9)
    assert bootstrap_interval([0.25], rng()) == (0.25, 0.25, 0.25)
    once = values[rng(4).integers(0, 37, size=37)].mean(axis=0)
    assert [interval.low for interval in bootstrap_intervals(values, rng(4), resamples=1)] == pytest.approx(
        once
    )


def test_it_covers_the_truth_as_often_as_it_says() -> None:
    draws = rng(1)
    hits = 0
    for _ in range(300):
        interval = bootstrap_interval((draws.random(60) < 0.4).astype(np.float64), draws, resamples=400)
        hits += interval.low <= 0.4 <= interval.high
    assert 0.90 <= hits / 300 <= 0.99


def test_columns_share_their_resamples_and_runs_repeat() -> None:
    values = rng(3).random((50, 2))
    values[:, 1] = 1 - values[:, 0]
    first, second = bootstrap_intervals(values, rng(7), resamples=500)
    assert first.low == pytest.approx(1 - second.high) and first.high == pytest.approx(1 - second.low)
    assert bootstrap_intervals(values, rng(7), resamples=500) == [first, second]
    constant = bootstrap_interval([0.25] * 9, rng())
    assert constant == pytest.approx((0.25, 0.25, 0.25))


def enumerated(differences: list[float]) -> float:
    observed = abs(sum(differences))
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    reached = sum(abs(sum(s * d for s, d in zip(row, differences))) >= observed - 1e-9 for row in signs)
    return reached / len(signs)


@pytest.mark.parametrize(
    "differences", [[1, 1, 1], [1, -1, 0, 0.5], [0.3, 0.1, 0.2, -0.6], [1, 1, 1, 1, 1, -1, 0]]
)
def test_few_questions_are_enumerated(differences: list[float]) -> None:
    first = [0.2] * len(differences)
    second = [0.2 + d for d in differences]
    expected = enumerated(differences)
    assert paired_permutation_test(first, second, rng()) == pytest.approx(expected)
    assert paired_permutation_test(second, first, rng()) == pytest.approx(expected)


def test_many_questions_agree_with_the_binomial() -> None:
    wins, losses = 30, 14  # a sign test: P(|W - L| >= 16) of 44 fair coins
    from math import comb

    expected = 2 * sum(comb(44, k) for k in range(wins, 45)) / 2**44
    first = [0.0] * wins + [1.0] * losses + [1.0] * 20
    second = [1.0] * wins + [0.0] * losses + [1.0] * 20
    p_value = paired_permutation_test(first, second, rng(), resamples=40_000)
    assert p_value == pytest.approx(expected, abs=0.003)
    assert paired_permutation_test([0.0] * 40, [1.0] * 40, rng(), resamples=99) == pytest.approx(0.01)
    assert paired_permutation_test([0.5] * 4, [0.5] * 4, rng()) == 1.0


def test_paired_bootstrap_is_narrower_than_the_unpaired_one() -> None:
    first = rng(5).random(200)
    second = first + 0.05
    interval = paired_bootstrap(first, second, rng())
    assert interval == pytest.approx((0.05, 0.05, 0.05))


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.9, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_what_cannot_be_computed_is_refused() -> None:
    with pytest.raises(DataError, match="no questions"):
        bootstrap_interval([], rng())
    with pytest.raises(DataError, match="cannot pair 2 scores with 3"):
        paired_permutation_test([0.0, 1.0], [0.0, 1.0, 1.0], rng())


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706205), (2, 4.302653), (3, 3.182446), (4, 2.776445), (9, 2.262157), (30, 2.042272)],
)
def test_student_s_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=1e-6)
    assert student_quantile(5, 0.99) == pytest.approx(4.032143, abs=1e-6)


def test_an_interval_over_runs_by_hand() -> None:
    # mean 3, s = sqrt((4 + 0 + 4) / 2) = 2, half = 4.302653 * 2 / sqrt(3)
    assert student_interval([1.0, 3.0, 5.0]) == pytest.approx((3.0, 3 - 4.968276, 3 + 4.968276), abs=1e-5)
    with pytest.raises(DataError, match="two"):
        student_interval([1.0])
