"""The weights and the bound for a trainer of one's own: log-probabilities in, nothing else needed.

In: tensors [questions, samples] (or [samples], of one question) in nats, a column a draw; a list that was
drawn twice has two columns. Out: weights of the same shape, and one number a question. The formulas are those
of `ragdro.algorithms.weights`; NaN is refused, as it would spread over its question in silence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ragdro.algorithms import weights
from ragdro.errors import DataError


def importance_weights(
    log_likelihood: Tensor, log_prior: Tensor | None = None, log_proposal: Tensor | None = None
) -> Tensor:
    """w_i ~ p(y|x,d_zi) p(z_i|x) / q(z_i), normalised over a question's samples.

    `log_likelihood`: log p(y|x,d_z) of the gold answer; `log_prior`: log p(z|x) under the selector;
    `log_proposal`: log q(z) of what the lists were drawn from. Without the last two they were drawn from the
    selector itself, so that w_i ~ p(y|x,d_zi). A question whose answer is impossible under all its samples
    gets equal weights. Raises `DataError` for NaN, other shapes, or one of the last two without the other.
    """
    ratios = _log_ratios(log_likelihood, log_prior, log_proposal)
    return weights.importance_weights(ratios).reshape(log_likelihood.shape)


def effective_sample_size(normalised_weights: Tensor) -> Tensor:
    """1 / sum_i w_i^2 of each question, between 1 and the number of samples (Kish 1965)."""
    rows = normalised_weights if normalised_weights.dim() == 2 else normalised_weights[None]
    return weights.effective_sample_size(rows).reshape(normalised_weights.shape[:-1])


def bound(
    log_likelihood: Tensor, log_prior: Tensor | None = None, log_proposal: Tensor | None = None
) -> Tensor:
    """The m-sample lower bound of log p(y|x) of each question, in nats (Burda et al. 2016).

    In: as `importance_weights`. It rises with m in expectation; raises as that does.
    """
    return weights.bound(_log_ratios(log_likelihood, log_prior, log_proposal)).reshape(
        log_likelihood.shape[:-1]
    )


def _log_ratios(log_likelihood: Tensor, log_prior: Tensor | None, log_proposal: Tensor | None) -> Tensor:
    if log_likelihood.dim() not in (1, 2) or not log_likelihood.shape[-1]:
        raise DataError(
            f"log_likelihood: is [questions, samples] or [samples], not {list(log_likelihood.shape)}"
        )
    if (log_prior is None) != (log_proposal is None):
        raise DataError(
            "log_prior and log_proposal go together: without both, lists came from the selector itself"
        )
    zero = torch.zeros_like(log_likelihood)
    parts = (
        log_likelihood,
        zero if log_prior is None else log_prior,
        zero if log_proposal is None else log_proposal,
    )
    for name, part in zip(("log_likelihood", "log_prior", "log_proposal"), parts, strict=True):
        if part.shape != log_likelihood.shape:
            raise DataError(f"{name}: is {list(part.shape)}, log_likelihood {list(log_likelihood.shape)}")
        if bool(part.isnan().any()):
            raise DataError(f"{name}: holds NaN")
    rows = [part if part.dim() == 2 else part[None] for part in parts]
    return weights.log_ratios(rows[0], rows[1], rows[2])
