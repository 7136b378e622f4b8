"""What the samples at hand say about a fit.

In: `WeightedTask`s. Out: metrics: means over the questions, in nats where it is a logarithm. Nothing here
draws or scores anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ragdro.algorithms import weights as formulas
from ragdro.algorithms.weights import QuestionsBySamples, importance_weights
from ragdro.types import Permutation, WeightedTask

METRICS = (
    "bound",
    "bound_error",
    "effective_sample_size",
    "weight_entropy",
    "weight_variance",
    "selector_entropy",
    "distinct_fraction",
    "overlap",
    "passages",
)


def sample_metrics(weighted: Sequence[WeightedTask], m: int | None = None) -> dict[str, float]:
    """Each of `METRICS`, from the first `m` draws of every question (None: all).

    `bound_error` is the standard error of `bound` over the questions (NaN for a single one),
    `distinct_fraction` the fraction of the draws whose list (or path) was not drawn before, whatever was
    thought about it, `overlap` how probably a passage of one is in another one too, `passages` how many one
    has; the rest is in `ragdro.algorithms.weights`.
    The weights are the posterior's, whatever an objective makes of them.
    """
    rows = [_of_one(w, m) for w in weighted]
    bounds = torch.tensor([row["bound"] for row in rows], dtype=torch.float64)
    error = float(bounds.std(correction=1)) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {name: error if name == "bound_error" else means[name] for name in METRICS}


def _of_one(weighted: WeightedTask, m: int | None) -> dict[str, float]:
    drawn = weighted.drawn[:m]
    samples = [weighted.samples[i] for i in drawn]
    lists = [s.permutation for s in samples]
    chosen = {(s.permutation, s.path and s.path.decisions) for s in samples}
    log_prior, log_proposal = column(weighted, "log_prior", m), column(weighted, "log_proposal", m)
    ratios = column(weighted, "log_ratio", m)
    weights = formulas.importance_weights(ratios)
    return {
        "bound": float(formulas.bound(ratios)),
        "effective_sample_size": float(formulas.effective_sample_size(weights)),
        "weight_entropy": float(weight_entropy(weights)),
        "weight_variance": float(weight_variance(weights)),
        "selector_entropy": float(entropy(log_prior, log_proposal)),
        "distinct_fraction": len(chosen) / len(drawn),
        "overlap": overlap(lists),
        "passages": sum(map(len, lists)) / len(lists),
    }


def overlap(lists: Sequence[Permutation]) -> float:
    """The probability that a passage of one list is in another one of them too: 1 where all hold the same
    passages, 0 where no two share one; NaN for a single list, which has no other."""
    if len(lists) == 1:
        return math.nan
    counts = Counter(passage for one in lists for passage in one)
    if not counts:  # no query has found anything: all hold the same, nothing
        return 1.0
    return sum(n * (n - 1) for n in counts.values()) / ((len(lists) - 1) * counts.total())


def column(weighted: WeightedTask, name: str, m: int | None = None) -> Tensor:
    """[1, samples]: a number of each of the first `m` draws, in the order drawn."""
    values = [getattr(weighted.samples[i], name) for i in weighted.drawn[:m]]
    return torch.tensor([values], dtype=torch.float64)


def weight_entropy(weights: QuestionsBySamples) -> Float[Tensor, " questions"]:
    """-sum_i w_i log w_i in nats: log m when all samples weigh the same, 0 when one has all the weight."""
    return -torch.xlogy(weights, weights).sum(dim=1)


def weight_variance(weights: QuestionsBySamples) -> Float[Tensor, " questions"]:
    """1/m sum_i (w_i - 1/m)^2: 0 when all samples weigh the same, (m - 1)/m^2 when one has all the weight."""
    return weights.var(dim=1, correction=0)


def entropy(log_p: QuestionsBySamples, log_proposal: QuestionsBySamples) -> Float[Tensor, " questions"]:
    """-E_p[log p] in nats, estimated from samples of the proposal: their mean where that is p itself."""
    return -(importance_weights(log_p - log_proposal) * log_p).sum(dim=1)


def divergence(
    log_then: QuestionsBySamples, log_now: QuestionsBySamples, log_proposal: QuestionsBySamples
) -> Float[Tensor, " questions"]:
    """KL(then || now) in nats, estimated from samples of the proposal by E_then[r - 1 - log r], r = now/then.

    As E_then[r] = 1 this has the expectation of -log r, but is never negative and varies less.
    """
    ratio = log_now - log_then
    return (importance_weights(log_then - log_proposal) * (ratio.exp() - 1 - ratio)).sum(dim=1)
