"""Greedy against other answers of the same questions: metrics, and what the confidence of marginal ones is
worth.

In: records of `evaluate` in the same order, and a confidence for each answer. Out: plain values, as
`ragdro evaluate --answering marginal` prints them. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ragdro.evaluation.confidence import confidence_of
from ragdro.evaluation.metrics import exact_match, f1
from ragdro.evaluation.significance import paired_bootstrap, paired_permutation_test
from ragdro.types import Prediction

COVERAGES = (0.5, 0.8, 0.9)
METRICS = ("exact_match", "f1")
_RESAMPLES = 2_000


def compare_ways(
    greedy: Sequence[Prediction], greedy_confidence: Sequence[float], marginal: Sequence[Prediction]
) -> dict[str, Any]:
    """`greedy` and `marginal`, each with its metrics, curve and bins; `difference` (marginal − greedy) with
    its 95 % interval and p-value for each metric.

    The confidence is what `greedy_confidence` and the distributions say; the threshold is not applied, since
    the curve is over all thresholds.
    """
    best = [_distribution(p).answers[0] for p in marginal]
    scores = {
        "greedy": _scores(greedy, [p.answer for p in greedy]),
        "marginal": _scores(marginal, [a.answer for a in best]),
    }
    ways = {
        "greedy": _way(scores["greedy"], greedy_confidence),
        "marginal": _way(scores["marginal"], [a.probability for a in best]),
    }
    return {
        **ways,
        "difference": {m: _difference(scores["greedy"][m], scores["marginal"][m]) for m in METRICS},
    }


def compare_selections(
    greedy: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], kind: str
) -> dict[str, Any]:
    """Records of `evaluate` of the same questions in the same order: under `greedy` and under `kind` the mean
    of each metric that applies to all of them; `difference` (`kind` − greedy) with its 95 % interval and
    p-value for each."""
    known = [m for m in (*METRICS, "full_recall") if all(r[m] is not None for r in (*greedy, *other))]
    scores = {
        way: {metric: [float(r[metric]) for r in records] for metric in known}
        for way, records in (("greedy", greedy), (kind, other))
    }
    means = {way: {m: float(np.mean(v)) for m, v in own.items()} for way, own in scores.items()}
    return {**means, "difference": {m: _difference(scores["greedy"][m], scores[kind][m]) for m in known}}


def without_curves(ways: Mapping[str, Any]) -> dict[str, Any]:
    """The same with nothing of which there is a line a question."""
    return {
        way: {key: value for key, value in entry.items() if key != "curve"} for way, entry in ways.items()
    }


def distribution_record(prediction: Prediction) -> dict[str, Any]:
    """Confidence, competing answers and how many lists they come from; nothing for a greedy answer."""
    distribution = prediction.distribution
    if distribution is None:
        return {}
    return {
        "confidence": distribution.confidence,
        "agreement": distribution.answers[0].agreement,
        "abstained": prediction.abstained,
        "competing": [asdict(answer) for answer in distribution.answers],
        "lists": distribution.lists,
        "exact": distribution.exact,
        **({"thoughts": distribution.thoughts} if distribution.thoughts else {}),
    }


def _distribution(prediction: Prediction) -> Any:
    assert prediction.distribution is not None
    return prediction.distribution


def _scores(predictions: Sequence[Prediction], answers: Sequence[str]) -> dict[str, list[float]]:
    gold = [p.task.question.answers for p in predictions]
    return {
        "exact_match": [exact_match(a, g) for a, g in zip(answers, gold, strict=True)],
        "f1": [f1(a, g) for a, g in zip(answers, gold, strict=True)],
    }


def _way(scores: Mapping[str, Sequence[float]], confidences: Sequence[float]) -> dict[str, Any]:
    confidence = confidence_of(confidences, scores["exact_match"])
    return {
        **{metric: float(np.mean(values)) for metric, values in scores.items()},
        "mean_confidence": float(np.mean(confidences)),
        "risk_coverage_area": confidence.area,
        "best_risk_coverage_area": confidence.best_area,
        "calibration_error": confidence.calibration_error,
        "brier": confidence.brier,
        "at_coverage": {str(c): asdict(confidence.at_coverage(c)) for c in COVERAGES},
        "bins": [asdict(one) for one in confidence.bins],
        "curve": [asdict(point) for point in confidence.curve],
    }


def _difference(greedy: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    interval = paired_bootstrap(greedy, other, rng, resamples=_RESAMPLES)
    p_value = paired_permutation_test(greedy, other, rng, resamples=_RESAMPLES)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "p_value": p_value}
