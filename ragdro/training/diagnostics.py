"""What the samples at hand say about a fit.

In: `WeightedTask`s. Out: metrics: means over the questions, in nats where it is a logarithm. Nothing here
draws or scores anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ragdro.algorithms import weights as formulas
from ragdro.types import WeightedTask

METRICS = (
    "bound",
    "effective_sample_size",
    "weight_entropy",
    "weight_variance",
    "selector_entropy",
    "distinct_fraction",
    "passages",
)


def sample_metrics(weighted: Sequence[WeightedTask], m: int | None = None) -> dict[str, float]:
    """Each of `METRICS`, from the first `m` draws of every question (None: all).

    `distinct_fraction` is the fraction of the draws that were not drawn before, `passages` how many a draw
    has; the rest is in `ragdro.algorithms.weights`.
    The weights are the posterior's, whatever an objective makes of them.
    """
    rows = [_of_one(w, m) for w in weighted]
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}


def _of_one(weighted: WeightedTask, m: int | None) -> dict[str, float]:
    drawn = weighted.drawn[:m]
    log_prior, log_proposal = column(weighted, "log_prior", m), column(weighted, "log_proposal", m)
    ratios = formulas.log_ratios(column(weighted, "log_likelihood", m), log_prior, log_proposal)
    weights = formulas.importance_weights(ratios)
    return {
        "bound": float(formulas.bound(ratios)),
        "effective_sample_size": float(formulas.effective_sample_size(weights)),
        "weight_entropy": float(formulas.weight_entropy(weights)),
        "weight_variance": float(formulas.weight_variance(weights)),
        "selector_entropy": float(formulas.entropy(log_prior, log_proposal)),
        "distinct_fraction": len(set(drawn)) / len(drawn),
        "passages": sum(len(weighted.samples[at].permutation) for at in drawn) / len(drawn),
    }


def column(weighted: WeightedTask, name: str, m: int | None = None) -> Tensor:
    """[1, samples]: a number of each of the first `m` draws, in the order drawn."""
    values = [getattr(weighted.samples[at], name) for at in weighted.drawn[:m]]
    return torch.tensor([values], dtype=torch.float64)
