"""The optimiser of a fit: AdamW, or bitsandbytes' with states of 8 bits, in pages that may leave the GPU.

In: a model and `Optimisation` settings. Out: a `torch.optim.Optimizer` whose state `ragdro.runs.state`
saves.
"""

from __future__ import annotations

from typing import Any

from torch.optim import AdamW, Optimizer

from ragdro.config import Optimisation
from ragdro.lm.model import LanguageModel
from ragdro.lm.quantised import bitsandbytes

_CLASSES = {"adamw-8bit": "AdamW8bit", "paged-adamw-8bit": "PagedAdamW8bit"}


def make_optimiser(model: LanguageModel, settings: Optimisation, *, sharded: bool) -> Optimizer:
    """The optimiser that `settings.optimiser` names, over what is trained of `model`. The `peak` of each of
    its groups is the highest learning rate of the fit: that of the model's weights, and that of a pointer's
    projections, which are not decayed (their length means nothing). Raises `ConfigError` where it needs a
    library that is not installed."""
    betas = (0.9, settings.beta2)
    weights = [p for p in model.hf.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": weights, "peak": settings.learning_rate}] if weights else []
    if model.projections is not None:
        peak = settings.projection_rate
        groups.append({"params": [*model.projections.parameters()], "peak": peak, "weight_decay": 0.0})
    fused = model.device.type in ("cuda", "cpu")
    if settings.optimiser == "adamw":
        return AdamW(
            groups,
            lr=settings.learning_rate,
            betas=betas,
            weight_decay=settings.weight_decay,
            fused=fused and not sharded,
            foreach=False if sharded else None,  # neither takes whole and sharded ones together
        )
    library = bitsandbytes(f"optimiser: {settings.optimiser}")
    made: Optimizer = getattr(library.optim, _CLASSES[settings.optimiser])(
        groups, lr=settings.learning_rate, betas=betas, weight_decay=settings.weight_decay
    )
    return made
