"""The optimiser of a fit: AdamW, or bitsandbytes' with states of 8 bits, in pages that may leave the GPU.

In: parameters and `Optimisation` settings. Out: a `torch.optim.Optimizer` whose state `ragdro.runs.state`
saves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim import AdamW, Optimizer

from ragdro.config import Optimisation
from ragdro.lm.quantised import bitsandbytes

_CLASSES = {"adamw-8bit": "AdamW8bit", "paged-adamw-8bit": "PagedAdamW8bit"}


def make_optimiser(
    parameters: Sequence[torch.nn.Parameter], settings: Optimisation, *, sharded: bool
) -> Optimizer:
    """The optimiser that `settings.optimiser` names. Raises `ConfigError` where it needs a library that is
    not installed."""
    betas = (0.9, settings.beta2)
    fused = parameters[0].device.type in ("cuda", "cpu")
    if settings.optimiser == "adamw":
        return AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=fused and not sharded,
            foreach=False if sharded else None,  # neither takes whole and sharded ones together
        )
    library = bitsandbytes(f"optimiser: {settings.optimiser}")
    made: Optimizer = getattr(library.optim, _CLASSES[settings.optimiser])(
        parameters, lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay
    )
    return made
