"""When the samples of an E-step say that a fit is in trouble, and what to try. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ragdro.units import number

LEAST_EFFECTIVE = 1.5
"""Effective sample size under which one sample has nearly all the weight."""
LEAST_LISTS = 1.05
"""Number of lists that the selector hesitates between, exp(entropy), under which it hesitates no more."""


def warnings(metrics: Mapping[str, float], samples: int) -> dict[str, str]:
    """For each metric that says a fit is in trouble, what that is and what to try. None for a single sample
    a question, which cannot be compared with anything."""
    problems: dict[str, str] = {}
    if samples < 2:
        return problems
    size, entropy = metrics["effective_sample_size"], metrics["selector_entropy"]
    if size < LEAST_EFFECTIVE:
        problems["effective_sample_size"] = (
            f"the effective sample size is {number(size)} of {samples}: one permutation has nearly all the"
            " weight of a"
            " question. Try objective=dro-tempered, more e_step.samples, or a lower"
            " m_step.generator.learning_rate"
        )
    if entropy < math.log(LEAST_LISTS):
        problems["selector_entropy"] = (
            f"the selector's entropy is {number(entropy)} nats: it draws the same permutation nearly every"
            " time and learns nothing from that. Try objective=dro-centered, e_step.mixture, or a lower"
            " m_step.selector.learning_rate"
        )
    return problems
