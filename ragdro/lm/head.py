"""What a model does to its logits behind the output embeddings: a factor and a cap, where it has them.

In: a causal LM of Hugging Face. Out: the function from the output embeddings' values to the model's logits.
Gemma caps them, Cohere and Granite scale them. It is found by asking: the model's own forward pass is run on
one token with known values in place of the output embeddings', small ones and very large ones among them. So
no name of a config key has to be known, and a function of another kind is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

_PROBES = (1e-3, 1e6, 0.5, -3.0, 17.0, -40.0, 300.0, -1e3)
"""The first shows the factor, the second the cap, all together that there is nothing else."""


@dataclass(frozen=True, slots=True)
class LogitTransform:
    """cap * tanh(scale * logits / cap); without a cap, scale * logits."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """The model's logits; same shape."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def logit_transform(hf: PreTrainedModel) -> LogitTransform | None:
    """The transform of `hf`; None where what it does to its logits is of no such form."""
    table = hf.get_input_embeddings().weight
    sent = torch.tensor(_PROBES, device=table.device)
    given: list[Tensor] = []

    def known(_: torch.nn.Module, __: Any, output: Tensor) -> Tensor:
        width = output.shape[-1]
        given.append(sent.repeat(width // len(sent) + 1)[:width])
        return given[-1].expand_as(output)

    hook = hf.get_output_embeddings().register_forward_hook(known)
    try:
        with torch.no_grad():
            token = torch.zeros(1, 1, dtype=torch.long, device=table.device)
            logits = hf(input_ids=token, use_cache=False).logits[0, -1].float()
    finally:
        hook.remove()
    if len(given) != 1 or logits.shape != given[0].shape or len(logits) < len(_PROBES):
        return None
    scale, largest = float(logits[0]) / _PROBES[0], float(logits[1])
    nearest = round(scale, 6)
    scale = nearest if abs(scale - nearest) < 1e-6 * abs(scale) else scale
    cap = None if abs(largest - scale * _PROBES[1]) <= 1e-3 * abs(largest) else largest
    transform = LogitTransform(scale, cap)
    error = (transform(given[0]) - logits).abs() / logits.abs().clamp(min=1.0)
    return transform if bool((error <= 1e-4).all()) else None
