"""Whether what is computed shared is what the model itself computes, and the separate way where it is not.

In: a model and two ways to the same numbers. Out: whether they agree, with a warning where they do not: an
architecture whose attention or head is not what the shared ways assume must never lead to wrong numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import ScoredSequence

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}


def agree(
    model: LanguageModel, shared: Callable[[], Tensor], separate: Callable[[], Tensor], what: str
) -> bool:
    """Whether two tensors of log-probabilities (nats a token) are equal to the model's precision.

    Computed in evaluation mode without gradients. Warns (RuntimeWarning) where they are not; `what` says
    what differs and what follows from it.
    """
    training = model.hf.training
    model.hf.eval()
    worst = float("inf")
    if model.masks_are_understood:
        with torch.no_grad():
            worst = float((shared() - separate()).abs().max())
    model.hf.train(training)
    agreed = worst <= _TOLERANCE[model.autocast or model.hf.dtype]
    if not agreed:
        warnings.warn(
            f"{model.tokenizer.name}: sharing a prompt changes a token by {worst:.3g} nats; {what}",
            RuntimeWarning,
            stacklevel=3,
        )
    return agreed


def separate_log_probs(model: LanguageModel, sequences: Sequence[ScoredSequence]) -> Tensor:
    """[samples]: the textbook way, one full sequence after another through the model's own head."""
    totals = []
    for sequence in sequences:
        inputs = torch.from_numpy(sequence.inputs).to(model.device)[None]
        with model.precision():
            logits = model.hf(input_ids=inputs, use_cache=False).logits[0].float()
        at = torch.from_numpy(sequence.targets).to(model.device)
        rows, targets = logits[at - 1], torch.from_numpy(sequence.tokens).to(model.device)[at]
        if sequence.allowed is not None:
            keep = torch.zeros_like(rows, dtype=torch.bool)
            for i, ids in enumerate(sequence.allowed):
                keep[i, torch.from_numpy(ids).to(model.device)] = True
            rows = rows.masked_fill(~keep, -torch.inf)
        totals.append(rows.log_softmax(-1).gather(1, targets[:, None]).sum())
    return torch.stack(totals)
