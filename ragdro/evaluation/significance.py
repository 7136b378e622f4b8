"""How sure a metric is: bootstrap intervals, paired tests between two systems, correction for several.

In: per-question scores as one-dimensional arrays (or a matrix, a metric a column), and the generator that
draws. Out: numbers in the units of the scores; p-values in (0, 1]. Resampling is over questions.
Sources: Efron & Tibshirani 1993 (percentile bootstrap); Good 2005 (sign-flip permutation test), with the
count of Phipson & Smyth 2010, so that no p-value is 0; Holm 1979. The few runs of a study (its seeds) have
Student's t instead: too few to resample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ragdro.errors import DataError

Scores: TypeAlias = Sequence[float] | NDArray[np.float64]

_BLOCK_CELLS = 2**22  # numbers in a block of resamples: bounds memory at some 64 MB
_EXACT_UP_TO = 14  # 2**14 sign patterns are fewer than the default number of resamples, near enough


class Interval(NamedTuple):
    """A mean and the bounds of its interval."""

    mean: float
    low: float
    high: float


def _checked(scores: Scores) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.shape[0] == 0:
        raise DataError("no questions to compute an interval from")
    return values


def bootstrap_intervals(
    values: NDArray[np.float64],
    generator: np.random.Generator,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
) -> list[Interval]:
    """Percentile bootstrap interval of the mean of each column of (questions, metrics), from the same
    resamples for all columns. Raises DataError without questions."""
    matrix = _checked(values)
    middle = matrix.mean(axis=0)
    if len(matrix) == 1:  # every resample is the question itself, and scipy takes no sample of one
        return [Interval(float(m), float(m), float(m)) for m in middle]
    if resamples == 1:  # as where intervals are not looked at; scipy would divide by its spread, 0
        drawn = matrix[generator.integers(0, len(matrix), size=len(matrix))].mean(axis=0)
        return [Interval(float(m), float(d), float(d)) for m, d in zip(middle, drawn, strict=True)]
    bounds = stats.bootstrap(
        (matrix,),
        np.mean,
        axis=0,
        n_resamples=resamples,
        batch=max(1, _BLOCK_CELLS // matrix.size),
        confidence_level=level,
        method="percentile",
        rng=generator,
    ).confidence_interval
    return [
        Interval(float(m), float(low), float(high))
        for m, low, high in zip(middle, bounds.low, bounds.high, strict=True)
    ]


def bootstrap_interval(
    scores: Scores, generator: np.random.Generator, *, resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean of `scores`. Raises DataError without questions."""
    column = _checked(scores)[:, None]
    return bootstrap_intervals(column, generator, resamples=resamples, level=level)[0]


def paired_bootstrap(
    first: Scores,
    second: Scores,
    generator: np.random.Generator,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean difference `second − first`, the two being scores of the same questions in
    the same order. Raises DataError where they differ in number or are empty."""
    return bootstrap_interval(_differences(first, second), generator, resamples=resamples, level=level)


def _differences(first: Scores, second: Scores) -> NDArray[np.float64]:
    left, right = _checked(first), _checked(second)
    if left.shape != right.shape:
        raise DataError(f"cannot pair {left.shape[0]} scores with {right.shape[0]}")
    return right - left


def paired_permutation_test(
    first: Scores, second: Scores, generator: np.random.Generator, *, resamples: int = 10_000
) -> float:
    """Two-sided p-value that the mean difference is 0, by flipping the sign of each question's difference.

    Exact (all sign patterns) with up to 14 questions that differ; else the fraction of `resamples` random
    patterns, counting the observed one, that reach the observed difference. Raises DataError where the
    scores differ in number or are empty.
    """
    # Not scipy's permutation_test: it doubles the smaller tail, draws other signs by the same seed, and took
    # 24 times as long on 2,000 questions.
    differences = _differences(first, second)
    differences = differences[differences != 0.0]
    questions = len(differences)
    if questions == 0:
        return 1.0
    observed = abs(float(differences.sum()))
    reached = observed - 1e-9 * max(1.0, float(np.abs(differences).sum()))
    if questions <= _EXACT_UP_TO:
        patterns = (np.arange(2**questions)[:, None] >> np.arange(questions)) & 1
        return float(np.mean(np.abs((2 * patterns - 1) @ differences) >= reached))
    extreme = 0
    block = max(1, _BLOCK_CELLS // questions)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        signs = 2.0 * generator.integers(0, 2, size=(rows, questions), dtype=np.int8) - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= reached))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """The p-values adjusted for their number by Holm's step-down, under the same names; at most 1."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for rank, (name, p_value) in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_value))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def student_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean ± t · s / √n of independent values. Raises DataError for fewer than two."""
    if len(values) < 2:
        raise DataError("an interval over runs needs at least two")
    mean = float(np.mean(values))
    half = student_quantile(len(values) - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def student_quantile(freedom: int, level: float = 0.95) -> float:
    """The t with P(|T| ≤ t) = `level` for T of Student's distribution with `freedom` degrees of freedom."""
    return float(stats.t.ppf((1 + level) / 2, freedom))
