"""What a pass through a model's layers takes.

In: a causal LM of Hugging Face. Out: how many weights a token is multiplied by, and floating-point
operations.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel


def matrix_weights(hf: PreTrainedModel, adapter: str | None) -> int:
    """How many weights a token is multiplied by; another role's adapter on the same base is not."""
    table = hf.get_input_embeddings().weight
    total = 0
    for name, p in hf.get_decoder().named_parameters():
        shape = getattr(p, "ds_shape", p.shape)  # of the whole, where ZeRO-3 has it in parts
        if len(shape) > 1 and p is not table and ("lora_" not in name or f".{adapter}." in name):
            total += shape.numel() * (2 if p.dtype == torch.uint8 else 1)  # two 4-bit weights in a byte
    return total


def layer_flops(config: PretrainedConfig, weights: int, positions: Int[Tensor, "..."]) -> float:
    """Of tokens at these positions, forward; each attends to those before it."""
    heads, width = int(config.num_attention_heads), int(config.hidden_size)
    channels = heads * int(getattr(config, "head_dim", None) or width // heads)
    pairs = float(positions.sum()) + positions.numel()
    return 2.0 * weights * positions.numel() + 4.0 * int(config.num_hidden_layers) * channels * pairs
