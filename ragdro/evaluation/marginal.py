"""The predictive distribution over answers, sum_z p(z|x) p(y|x,d_z), from numbers alone.

In: answers, their log-likelihoods under each reading, the readings' weights (they estimate p(z|x)). Out: the
answers that are the same to the metric (`normalise`) put together, by probability. Distinct texts are
exclusive events, so that the probability of those put together is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ragdro.evaluation.metrics import normalise
from ragdro.types import RankedAnswer


def ranked_answers(
    answers: Sequence[str],
    greedy: Sequence[int],
    log_likelihoods: NDArray[np.float64],
    weights: Sequence[float],
) -> tuple[list[RankedAnswer], NDArray[np.float64]]:
    """The answers, the most probable first (ties: the one that comes first), and the likelihood of the first
    under each reading.

    `log_likelihoods` [readings, answers] in nats; `greedy`: each reading's own answer; `weights` of the
    readings sum to 1. Of texts that are the same to the metric the most probable stands for all.
    """
    p, fractions = np.exp(log_likelihoods), np.asarray(weights, np.float64)
    marginal = fractions @ p
    classes: dict[str, list[int]] = {}
    for place, answer in enumerate(answers):
        classes.setdefault(normalise(answer), []).append(place)
    ranked = []
    for members in classes.values():
        best = max(members, key=lambda place: marginal[place])
        supporters = [w for w, own in zip(fractions, greedy, strict=True) if own in members]
        probability = min(1.0, float(marginal[members].sum()))
        ranked.append((RankedAnswer(answers[best], probability, min(1.0, float(sum(supporters)))), members))
    ranked.sort(key=lambda entry: -entry[0].probability)
    likelihoods: NDArray[np.float64] = p[:, ranked[0][1]].sum(1)
    return [entry for entry, _ in ranked], likelihoods
