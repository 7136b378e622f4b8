"""Weights of samples and what samples say about a fit, as pure functions of tensors.

No model, no config, no I/O, so that everything here can be held against enumeration. Rows are questions,
columns the m samples drawn for each (duplicates included: multiplicity is just a repeated column). All
log quantities are natural logarithms.

    posterior weights     w_i ~ p(z_i|x) p(y|x,d_zi) / q(z_i), normalised over the m samples
    m-sample bound        L_m = log 1/m sum_i p(z_i|x) p(y|x,d_zi) / q(z_i)   (Burda et al. 2016)

With proposals from the selector itself (q = p) the weights are w_i ~ p(y|x,d_zi), the paper's.
`ragdro.algorithms.losses` has what the M-step makes of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

QuestionsBySamples = Float[Tensor, "questions samples"]
Weigh: TypeAlias = Callable[[Tensor], Tensor]
"""From log ratios [questions, samples] to weights of the same shape."""


def log_ratios(
    log_likelihood: QuestionsBySamples, log_prior: QuestionsBySamples, log_proposal: QuestionsBySamples
) -> QuestionsBySamples:
    """log p(z|x) + log p(y|x,d_z) - log q(z): the unnormalised log importance weights."""
    return log_likelihood + log_prior - log_proposal


def balance(
    log_proposals: Float[Tensor, "sources samples"], counts: Float[Tensor, " sources"]
) -> Float[Tensor, " samples"]:
    """log sum_j m_j / M q_j(z_i): the proposal of samples pooled from several sources, `counts[j]` = m_j of
    them from source j (the balance heuristic, Veach & Guibas 1995). A source of no sample plays no part."""
    return (log_proposals + (counts / counts.sum()).log()[:, None]).logsumexp(dim=0)


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
    """The m-sample lower bound L_m of log p(y|x), in nats; it rises with m in expectation.

    Columns that are all there is, each once with a proposal of 1/m, make it the sum itself:
    log sum_k p(d_k|x) p(y|x,d_k) of independent passages (RAG-Sequence, Lewis et al. 2020), whose gradient
    has their `importance_weights`, p(d_k|x,y).
    """
    return ratios.logsumexp(dim=1) - math.log(ratios.shape[1])


def tempered_weights(ratios: QuestionsBySamples, floor: float) -> QuestionsBySamples:
    """Weights proportional to ratio^tau, tau the largest in [0, 1] whose effective sample size is at least
    `floor` (1 to m). It falls with tau, so that tau is found by halving; rows that need no tempering keep
    tau = 1."""
    low = torch.zeros_like(ratios[:, :1])
    high = torch.ones_like(low)
    enough = effective_sample_size(importance_weights(ratios)) >= floor
    finite = torch.where(torch.isneginf(ratios), torch.finfo(ratios.dtype).min / 4, ratios)
    for _ in range(60):
        middle = (low + high) / 2
        fits = (effective_sample_size((finite * middle).softmax(dim=1)) >= floor)[:, None]
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.where(enough[:, None], importance_weights(ratios), (finite * low).softmax(dim=1))


def centered(weights: QuestionsBySamples) -> QuestionsBySamples:
    """w_i - 1/m: the weights as advantages, 0 where all samples are equally good.

    E_p[grad log p(z)] = 0, so on-policy this leaves the selector's expected gradient as it is and lowers its
    variance, up to the dependence of w_i on the other samples (of the order 1/m).
    """
    return weights - 1 / weights.shape[1]


def leave_one_out(rewards: QuestionsBySamples) -> QuestionsBySamples:
    """(r_i - mean of the others') / m: RLOO's advantages (Kool et al. 2019), a policy gradient of the mean
    reward without bias. A single sample has none to be compared with, and gets 0."""
    m = rewards.shape[1]
    if m == 1:
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (m - 1)


def penalised(
    rewards: QuestionsBySamples, log_prior: QuestionsBySamples, log_reference: QuestionsBySamples, kl: float
) -> QuestionsBySamples:
    """r_i - kl (log p(z_i) - log ref(z_i)): on-policy, the policy gradient of these is that of the mean
    reward less kl KL(p || ref), because E_p[grad log p] = 0."""
    return rewards - kl * (log_prior - log_reference)
