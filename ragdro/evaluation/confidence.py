"""How far a system's confidence can be trusted: risk and coverage, calibration, the Brier score.

In: for each question a confidence in [0, 1] and a score in [0, 1] (exact match: 1 right, 0 wrong). Out:
numbers and curves. Risk is 1 − score. No torch.

- Risk–coverage curve (El-Yaniv & Wiener 2010): answer only the most confident fraction of the questions
  (coverage); what is the mean risk of those? Its area (AURC, Geifman et al. 2019) is the mean of that risk
  over 1, 2, …, n questions answered; 0 is best. Questions of equal confidence cannot be ranked: each
  counts with their mean risk, and the curve has a point only where a threshold can cut.
- Expected calibration error (ECE): bins of equal width over [0, 1], the upper edge inside, 0 in the first;
  sum over bins of (fraction of the questions) · |mean score − mean confidence|. It depends on the binning and
  is 0 for a system that always says its base rate.
- Brier score: mean of (confidence − score)², a proper score: lowest in expectation where the confidence is
  the probability of being right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ragdro.errors import DataError

BINS = 10


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Answering what has at least `threshold` confidence: the fraction answered, and its mean risk."""

    threshold: float
    coverage: float
    risk: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions whose confidence is in (`low`, `high`], their mean confidence and mean score."""

    low: float
    high: float
    questions: int
    confidence: float
    score: float


@dataclass(frozen=True, slots=True)
class Confidence:
    """`area` under the risk–coverage curve; `best_area`: of the same scores in the best order there is."""

    curve: tuple[CoveragePoint, ...]
    area: float
    best_area: float
    bins: tuple[Bin, ...]
    calibration_error: float
    brier: float

    def at_coverage(self, fraction: float) -> CoveragePoint:
        """The first point of the curve that answers at least so many."""
        return next(point for point in self.curve if point.coverage >= fraction - 1e-12)


def confidence_of(confidences: Sequence[float], scores: Sequence[float], *, bins: int = BINS) -> Confidence:
    """All of it. Raises `DataError` without questions, for numbers that do not pair or are not in [0, 1]."""
    p, right = _checked(confidences, "confidences"), _checked(scores, "scores")
    if len(p) != len(right):
        raise DataError(f"{len(p)} confidences do not pair with {len(right)} scores")
    risks, ends, order = _selective_risks(p, 1 - right)
    curve = [
        CoveragePoint(float(p[order[end]]), (end + 1) / len(p), float(risks[end])) for end in ends.tolist()
    ]
    binned = _bins(p, right, bins)
    return Confidence(
        curve=tuple(curve),
        area=float(risks.mean()),
        best_area=float(_selective_risks(right, 1 - right)[0].mean()),
        bins=tuple(binned),
        calibration_error=sum(b.questions * abs(b.score - b.confidence) for b in binned) / len(p),
        brier=float(np.square(p - right).mean()),
    )


def _checked(values: Sequence[float], what: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not array.size:
        raise DataError("no questions to measure the confidence on")
    if not ((array >= 0) & (array <= 1)).all():
        raise DataError(f"{what}: every one must be between 0 and 1")
    return array


def _selective_risks(
    p: NDArray[np.float64], risk: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The mean risk of the first 1, 2, … n questions by confidence, where runs of equal confidence end, and
    the order."""
    order = np.argsort(-p, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(p[order]) != 0, True))
    starts = np.append(0, ends[:-1] + 1)
    means = np.add.reduceat(risk[order], starts) / (ends - starts + 1)
    expected = np.repeat(means, ends - starts + 1)
    return expected.cumsum() / np.arange(1, len(p) + 1), ends, order


def _bins(p: NDArray[np.float64], right: NDArray[np.float64], count: int) -> list[Bin]:
    """The bins that are not empty."""
    edges = np.arange(count + 1) / count  # linspace has 0.30000000000000004
    which = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, count - 1)
    return [
        Bin(
            float(edges[b]),
            float(edges[b + 1]),
            int((which == b).sum()),
            float(p[which == b].mean()),
            float(right[which == b].mean()),
        )
        for b in np.unique(which).tolist()
    ]
