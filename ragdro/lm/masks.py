"""Attention masks as Hugging Face's models take them, from who sees whom.

In: a model's config and a boolean visibility. Out: an additive float mask (a boolean one is misread by eager
attention), or one for each kind of layer where some have a sliding window.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PretrainedConfig

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}


def are_understood(config: PretrainedConfig) -> bool:
    """False where the architecture has layers whose attention these masks cannot describe."""
    return set(getattr(config, "layer_types", None) or ()) <= _KNOWN_LAYERS


def additive_masks(
    config: PretrainedConfig,
    dtype: torch.dtype,
    visible: Bool[Tensor, "rows queries keys"],
    positions: Int[Tensor, "rows queries"],
    key_positions: Int[Tensor, "rows keys"],
) -> Any:
    """[rows, 1, queries, keys], or a mapping of a layer's kind to such a mask; a window is in positions."""
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not kinds:
        kinds = {"full_attention"} if window is None else {"sliding_attention"}
    masks = {}
    for kind in kinds:
        seen = visible
        if kind == "sliding_attention" and window is not None:
            seen = visible & (positions[:, :, None] - key_positions[:, None, :] < window)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        masks[kind] = mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
    return masks if len(masks) > 1 else next(iter(masks.values()))
