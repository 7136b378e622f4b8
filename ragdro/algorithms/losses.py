"""The M-step's losses of one question, as pure functions of tensors: weights and log-probabilities in, nats
out.

    L_s = -sum_i w_i log p(z_i|x),  L_g = -sum_i w_i log p(y|x,d_zi)

With proposals from the selector itself L_g has the gradient of minus the m-sample bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From weights [samples] and log-probabilities [samples] to one number."""


def weighted_loss(
    weights: Float[Tensor, " samples"], log_probs: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """-sum_i w_i log p_i: the M-step's loss of one question, for either model."""
    return -(weights * log_probs).sum()


def clipped_loss(
    advantages: Float[Tensor, " samples"],
    log_probs: Float[Tensor, " samples"],
    sampled_log_probs: Float[Tensor, " samples"],
    clip: float,
) -> Float[Tensor, ""]:
    """-sum_i min(r_i a_i, clamp(r_i, 1 - clip, 1 + clip) a_i), PPO's surrogate (Schulman et al. 2017).

    r_i is the probability over what it was when sampled. At r_i = 1 the gradient is that of
    -sum_i a_i log p_i; a sample that has moved by more than `clip` in the wanted direction pulls no further.
    """
    ratio = (log_probs - sampled_log_probs).exp()
    held = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, held * advantages).sum()


def preference_loss(
    better: Float[Tensor, ""],
    worse: Float[Tensor, ""],
    reference_better: float,
    reference_worse: float,
    beta: float,
) -> Float[Tensor, ""]:
    """-log sigmoid(beta ((log p - ref)_better - (log p - ref)_worse)): DPO (Rafailov et al. 2023)."""
    margin = (better - reference_better) - (worse - reference_worse)
    return -F.logsigmoid(beta * margin)


@dataclass(frozen=True, slots=True)
class ClippedLoss:
    """`clipped_loss` against the probabilities that samples were drawn with, whose logarithms are given."""

    log_priors: tuple[float, ...]
    clip: float

    def __call__(self, advantages: Tensor, log_probs: Tensor) -> Tensor:
        """See `Loss`."""
        sampled = torch.tensor(self.log_priors, dtype=torch.float32, device=log_probs.device)
        return clipped_loss(advantages, log_probs, sampled, self.clip)


def loss_of(loss: Loss, samples: slice) -> Loss | None:
    """What `loss` is of some of its samples alone, where it is a sum over samples; else None."""
    if loss is weighted_loss:
        return loss
    if isinstance(loss, ClippedLoss):
        return ClippedLoss(loss.log_priors[samples], loss.clip)
    return None


def preference_to(reference: Sequence[float], beta: float) -> Loss:
    """`preference_loss` of a pair (better, worse) whose reference log-probabilities are given."""
    better, worse = reference
    return partial(_preference, better=better, worse=worse, beta=beta)


def _preference(weights: Tensor, log_probs: Tensor, *, better: float, worse: float, beta: float) -> Tensor:
    return preference_loss(log_probs[0], log_probs[1], better, worse, beta)
