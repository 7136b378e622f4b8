"""What the samples at hand say about a fit, and when it is in trouble.

In: `WeightedTask`s. Out: figures (means over the questions; nats where it is a logarithm) and warnings with
a remedy. Nothing here draws or scores anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ragdro.training import objectives
from ragdro.training.e_step import WeightedTask

FIGURES = (
    "bound",
    "effective_sample_size",
    "weight_entropy",
    "weight_variance",
    "selector_entropy",
    "distinct_fraction",
    "passages",
)
LEAST_EFFECTIVE = 1.5
"""Effective sample size under which one sample has nearly all the weight."""
LEAST_LISTS = 1.05
"""Number of lists that the selector hesitates between, exp(entropy), under which it hesitates no more."""


def figures(weighted: Sequence[WeightedTask], m: int | None = None) -> dict[str, float]:
    """Each of `FIGURES`, from the first `m` draws of every question (None: all).

    `distinct_fraction` is the share of the draws that were not drawn before, `passages` how many a draw has;
    the rest is in `objectives.py`.
    The weights are the posterior's, whatever an objective makes of them.
    """
    found = [_of_one(w, m) for w in weighted]
    return {name: sum(one[name] for one in found) / len(found) for name in FIGURES}


def _of_one(weighted: WeightedTask, m: int | None) -> dict[str, float]:
    drawn = weighted.drawn[:m]
    log_prior, log_proposal = column(weighted, "log_prior", m), column(weighted, "log_proposal", m)
    ratios = objectives.log_ratios(column(weighted, "log_likelihood", m), log_prior, log_proposal)
    weights = objectives.importance_weights(ratios)
    return {
        "bound": float(objectives.bound(ratios)),
        "effective_sample_size": float(objectives.effective_sample_size(weights)),
        "weight_entropy": float(objectives.weight_entropy(weights)),
        "weight_variance": float(objectives.weight_variance(weights)),
        "selector_entropy": float(objectives.entropy(log_prior, log_proposal)),
        "distinct_fraction": len(set(drawn)) / len(drawn),
        "passages": sum(len(weighted.samples[at].permutation) for at in drawn) / len(drawn),
    }


def column(weighted: WeightedTask, name: str, m: int | None = None) -> Tensor:
    """[1, samples]: a number of each of the first `m` draws, in the order drawn."""
    values = [getattr(weighted.samples[at], name) for at in weighted.drawn[:m]]
    return torch.tensor([values], dtype=torch.float64)


def warnings(found: Mapping[str, Any], m: int) -> dict[str, str]:
    """For each figure that says a fit is in trouble, what that is and what to try. None for a single sample
    a question, which cannot be compared with anything."""
    told: dict[str, str] = {}
    if m < 2:
        return told
    size, entropy = found["effective_sample_size"], found["selector_entropy"]
    if size < LEAST_EFFECTIVE:
        told["effective_sample_size"] = (
            f"the effective sample size is {size:.2f} of {m}: one permutation has nearly all the weight of a"
            " question. Try objective=dro-tempered, more e_step.samples, or a lower"
            " m_step.generator.learning_rate"
        )
    if entropy < math.log(LEAST_LISTS):
        told["selector_entropy"] = (
            f"the selector's entropy is {entropy:.3f} nats: it draws the same permutation nearly every"
            " time and learns nothing from that. Try objective=dro-centered, e_step.mixture, or a lower"
            " m_step.selector.learning_rate"
        )
    return told
