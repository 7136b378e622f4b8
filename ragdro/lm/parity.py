"""Whether what is computed shared is what the model itself computes, and the separate way where it is not.

In: a model and two ways to the same numbers. Out: whether they agree, with a warning where they do not: an
architecture whose attention or head is not what the shared ways assume must never lead to wrong numbers.

They are compared in float32, whatever the model's own precision: in 16 bits a real model's rounding moves a
token by more than many a wrong mask would.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ragdro.errors import warn
from ragdro.lm.exact import exactly
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import ScoredSequence
from ragdro.lm.turns import alone

_TOLERANCE = 1e-3
"""Nats a token: a wrong mask or position changes 1e-2 and more, float32 in another order 1e-5 or so."""
_SPREADS = 10
"""Where rounding is amplified more than that: so many times what another attention kernel changes."""


@alone()
def agree(
    model: LanguageModel, shared: Callable[[], Tensor], separate: Callable[[], Tensor], what: str
) -> bool:
    """Whether two tensors of log-probabilities (nats a token) are equal to float32's precision.

    Computed in evaluation mode without gradients. Warns (RagdroWarning, once a model) where they are not;
    `what` says what differs and what follows from it.
    """
    training = model.hf.training
    model.hf.eval()
    worst = float("inf")
    with torch.no_grad(), exactly(model):
        if model.masks_are_understood and model.logit_transform is not None:
            expected = separate()
            worst = float((shared() - expected).abs().max())
        agreed = worst <= _TOLERANCE
        if not agreed and worst < float("inf"):
            with sdpa_kernel(SDPBackend.MATH):
                spread = float((separate() - expected).abs().max())
            agreed = worst <= _SPREADS * spread
    model.hf.train(training)
    if not agreed and what not in model.warned:
        model.warned.add(what)
        warn(f"{model.tokenizer.name}: sharing a prompt changes a token by {worst:.3g} nats; {what}")
    return agreed


def _last_layers(model: LanguageModel, sequence: ScoredSequence) -> AbstractContextManager[None]:
    """Where the last layers read blocks as ordinary text: they do within."""
    if sequence.blocks is None or model.last_layers is None:
        return nullcontext()
    places = torch.arange(len(sequence.inputs), device=model.device)[None]
    visible = places[:, None] <= places[:, :, None]
    return model.last_layers.seeing(model.masks(visible, places, places))


def separate_log_probs(model: LanguageModel, sequences: Sequence[ScoredSequence]) -> Tensor:
    """[samples]: the textbook way, one full sequence after another through the model's own head; where they
    begin with blocks, under a mask."""
    picks = "logits_to_keep" in inspect.signature(model.hf.forward).parameters
    totals = []
    for sequence in sequences:
        inputs = torch.from_numpy(sequence.inputs).to(model.device)[None]
        positions = torch.from_numpy(sequence.targets).to(model.device)
        rows_at = positions - 1
        rest: dict[str, Any] = {"use_cache": False}
        if sequence.blocks is not None:
            masked = sequence.masked()
            inputs, places, visible, path = (
                torch.from_numpy(x).to(model.device)[None]
                for x in (masked.tokens, masked.positions, masked.visible, masked.path)
            )
            rest |= {"attention_mask": model.masks(visible, places, places), "position_ids": places}
            rows_at = path[0, rows_at]
        with model.precision(), _last_layers(model, sequence):
            if picks:
                kept = model.hf(input_ids=inputs, logits_to_keep=rows_at, **rest)
                rows = kept.logits[0].float()
            else:
                rows = model.hf(input_ids=inputs, **rest).logits[0, rows_at].float()
        targets = torch.from_numpy(sequence.tokens).to(model.device)[positions]
        if sequence.allowed is not None:
            keep = torch.zeros_like(rows, dtype=torch.bool)
            for i, ids in enumerate(sequence.allowed):
                keep[i, torch.from_numpy(ids).to(model.device)] = True
            rows = rows.masked_fill(~keep, -torch.inf)
        totals.append(rows.log_softmax(-1).gather(1, targets[:, None]).sum())
    return torch.stack(totals)
