"""The optimiser of a fit: AdamW, or bitsandbytes' with states of 8 bits, in pages that may leave the GPU.

In: parameters and `Optimisation` settings. Out: a `torch.optim.Optimizer` whose state `checkpoint.py` saves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.optim import AdamW, Optimizer

from ragdro.config import Config, Optimisation
from ragdro.lm.quantised import bitsandbytes

_CLASSES = {"adamw-8bit": "AdamW8bit", "paged-adamw-8bit": "PagedAdamW8bit"}


def make_optimiser(
    parameters: Iterable[torch.nn.Parameter], settings: Optimisation, *, fused: bool
) -> Optimizer:
    """The optimiser that `settings.optimiser` names; `fused` is AdamW's own. Raises `ConfigError` where it
    needs a library that is not installed."""
    betas = (0.9, settings.beta2)
    if settings.optimiser == "adamw":
        return AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=fused,
        )
    library = bitsandbytes(f"optimiser: {settings.optimiser}")
    made: Optimizer = getattr(library.optim, _CLASSES[settings.optimiser])(
        parameters, lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay
    )
    return made


def require_optimisers(config: Config) -> None:
    """Raises `ConfigError` naming the key of an optimiser whose library is not installed."""
    for stage, fits in (("warm_up", config.warm_up), ("m_step", config.m_step)):
        for role, settings in (("selector", fits.selector), ("generator", fits.generator)):
            if settings is not None and settings.optimiser != "adamw":
                bitsandbytes(f"{stage}.{role}.optimiser: {settings.optimiser}")
