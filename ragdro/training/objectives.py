"""What is maximised, as pure functions of tensors: log-probabilities in, weights and losses out.

No model, no config, no I/O, so that everything here can be held against enumeration. Rows are questions,
columns the m samples drawn for each (duplicates included: multiplicity is just a repeated column). All
log quantities are natural logarithms.

    posterior weights     w_i ~ p(z_i|x) p(y|x,d_zi) / q(z_i), normalised over the m samples
    m-sample bound        L_m = log 1/m sum_i p(z_i|x) p(y|x,d_zi) / q(z_i)   (Burda et al. 2016)
    losses (M-step)       L_s = -sum_i w_i log p(z_i|x),  L_g = -sum_i w_i log p(y|x,d_zi)

With proposals from the selector itself (q = p) the weights are w_i ~ p(y|x,d_zi), the paper's. The
generator's loss then has the gradient of -L_m.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

QuestionsBySamples = Float[Tensor, "questions samples"]


def log_ratios(
    log_likelihood: QuestionsBySamples, log_prior: QuestionsBySamples, log_proposal: QuestionsBySamples
) -> QuestionsBySamples:
    """log p(z|x) + log p(y|x,d_z) - log q(z): the unnormalised log importance weights."""
    return log_likelihood + log_prior - log_proposal


def impossible(ratios: QuestionsBySamples) -> Bool[Tensor, " questions"]:
    """Questions none of whose samples the generator finds possible (all weights are zero)."""
    return torch.isneginf(ratios).all(dim=1)


def importance_weights(ratios: QuestionsBySamples) -> QuestionsBySamples:
    """Self-normalised weights; each row sums to 1. Rows that are `impossible` get uniform weights."""
    usable = torch.where(impossible(ratios)[:, None], torch.zeros_like(ratios), ratios)
    return usable.softmax(dim=1)


def effective_sample_size(weights: QuestionsBySamples) -> Float[Tensor, " questions"]:
    """1 / sum_i w_i^2 (Kish): m when all samples weigh the same, 1 when one has all the weight."""
    return 1 / weights.square().sum(dim=1)


def bound(ratios: QuestionsBySamples) -> Float[Tensor, " questions"]:
    """The m-sample lower bound L_m of log p(y|x), in nats; it rises with m in expectation."""
    return ratios.logsumexp(dim=1) - math.log(ratios.shape[1])


def weighted_loss(
    weights: Float[Tensor, " samples"], log_probs: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """-sum_i w_i log p_i: the M-step's loss of one question, for either model."""
    return -(weights * log_probs).sum()
