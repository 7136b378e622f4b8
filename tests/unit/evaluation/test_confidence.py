"""Risk and coverage, calibration and the Brier score against numbers worked by hand and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from ragdro.errors import DataError
from ragdro.evaluation.confidence import confidence_of


def test_a_curve_by_hand() -> None:
    """By confidence the questions are right, wrong, right, wrong."""
    found = confidence_of([0.4, 0.9, 0.6, 0.8], [0.0, 1.0, 1.0, 0.0])
    assert [(c.threshold, c.coverage, c.risk) for c in found.curve] == [
        (0.9, 0.25, 0.0),
        (0.8, 0.5, 0.5),
        (0.6, 0.75, pytest.approx(1 / 3)),
        (0.4, 1.0, 0.5),
    ]
    assert found.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert found.best_area == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert found.at_coverage(0.5).threshold == 0.8 and found.at_coverage(0.51).threshold == 0.6


def test_equal_confidence_is_one_point_of_the_curve() -> None:
    """Three of equal confidence, one of them wrong: each counts a third; no order of them matters."""
    expected = (0 + (1 / 3) / 2 + (2 / 3) / 3 + 1 / 4) / 4
    for scores in ([1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0]):
        found = confidence_of([0.9, 0.5, 0.5, 0.5], scores)
        assert [(c.coverage, c.risk) for c in found.curve] == [(0.25, 0.0), (1.0, 0.25)]
        assert found.area == pytest.approx(expected)


def test_calibration_by_hand() -> None:
    """Bins (0.0, 0.5] and (0.5, 1.0]: 0, 0.2 and 0.5 in the first, 0.8 and 1 in the second."""
    found = confidence_of([0.0, 0.2, 0.5, 0.8, 1.0], [0.0, 1.0, 0.0, 1.0, 1.0], bins=2)
    assert [(b.low, b.high, b.questions) for b in found.bins] == [(0.0, 0.5, 3), (0.5, 1.0, 2)]
    assert [b.confidence for b in found.bins] == pytest.approx([0.7 / 3, 0.9])
    assert [b.score for b in found.bins] == pytest.approx([1 / 3, 1.0])
    assert found.calibration_error == pytest.approx((3 * (1 / 3 - 0.7 / 3) + 2 * 0.1) / 5)
    assert found.brier == pytest.approx((0 + 0.64 + 0.25 + 0.04 + 0) / 5)


def test_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    calibration = pytest.importorskip("sklearn.calibration")
    rng = np.random.default_rng(0)
    p = rng.random(500)
    right = (rng.random(500) < p**2).astype(float)
    found = confidence_of(p.tolist(), right.tolist())
    assert found.brier == pytest.approx(metrics.brier_score_loss(right, p))
    true, predicted = calibration.calibration_curve(right, p, n_bins=10)
    assert [b.score for b in found.bins] == pytest.approx(true.tolist())
    assert [b.confidence for b in found.bins] == pytest.approx(predicted.tolist())
    assert found.calibration_error > 0.1


def test_what_is_perfect_and_what_is_worst() -> None:
    perfect = confidence_of([1.0, 1.0, 0.0], [1.0, 1.0, 0.0])
    assert perfect.area == perfect.best_area == pytest.approx(1 / 9)
    assert perfect.calibration_error == perfect.brier == 0
    worst = confidence_of([0.0, 1.0], [1.0, 0.0])
    assert worst.brier == worst.calibration_error == 1 and worst.area > worst.best_area


@pytest.mark.parametrize(
    ("confidences", "scores", "message"),
    [
        ([], [], "no questions"),
        ([0.5], [1.0, 0.0], "do not pair"),
        ([1.2], [1.0], "between 0 and 1"),
        ([float("nan")], [1.0], "between"),
    ],
)
def test_what_cannot_be_measured(confidences: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        confidence_of(confidences, scores)
