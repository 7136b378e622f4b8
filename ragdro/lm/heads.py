"""What a model's attention heads say of passages: a pointer selector's other way to score them.

In: a pass over prompts whose question stands behind the passages. Out: for each passage and head the
logarithm of how much attention the question's tokens pay to the passage's (the mean over the question's
tokens of the sum over the passage's), and a score, the weighted sum of these over the heads. Some heads of a
pretrained model attend to what answers a question without having been trained for that (Wu et al.,
"Retrieval Head Mechanistically Explains Long-Context Factuality", 2024; Chen et al., "Attention in Large
Language Models Yields Efficient Zero-Shot Re-Rankers", ICLR 2025), so a few hundred weights are all that has
to be learned.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Module, Parameter
from torch.utils.checkpoint import checkpoint

_LEAST = 1e-6
"""Attention below this is as good as none."""
_CACHED_NUMBERS = 2**26
"""Most numbers that a cache holds (256 MiB)."""


class AttentionProbe:
    """Collects each layer's log-attention during one pass over a batch of rows.

    `asked` [rows, asked]: where the question's tokens are, -1 behind the last. `passages` [rows, width]:
    which passage each token belongs to, -1 for none. `count`: the most passages that a row has.
    """

    def __init__(
        self, asked: Int[Tensor, "rows asked"], passages: Int[Tensor, "rows width"], count: int
    ) -> None:
        self._asked = asked
        numbers = torch.arange(count, device=passages.device)
        self._members = (passages[:, :, None] == numbers).float()
        self._layers: list[Tensor] = []

    def see(self, query: Tensor, key: Tensor, scaling: float | None, window: int | None) -> None:
        """A layer's queries and keys, [rows, heads, width, channels], as its attention gets them."""
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        places = self._asked.clamp(min=0)[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[-1])
        chosen = query.gather(2, places)
        if chosen.requires_grad:  # what is in between is made again in the backward pass rather than kept
            seen = checkpoint(self._log_attention, chosen, key, scale, window, use_reentrant=False)
        else:
            seen = self._log_attention(chosen, key, scale, window)
        self._layers.append(seen)

    def _log_attention(self, query: Tensor, key: Tensor, scale: float, window: int | None) -> Tensor:
        """[rows, passages, heads]."""
        with torch.autocast(query.device.type, enabled=False):
            keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1).float()
            logits = query.float() @ keys.transpose(2, 3) * scale
            places = torch.arange(key.shape[2], device=key.device)
            behind = self._asked[:, :, None] - places
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            hidden = hidden & (self._asked >= 0)[:, :, None]
            attention = logits.masked_fill(hidden[:, None], -torch.inf).softmax(-1)
            of_passages = attention @ self._members[:, None]
            real = (self._asked >= 0).float()
            mean = torch.einsum("rhap,ra->rph", of_passages, real / real.sum(-1, keepdim=True))
            return (mean + _LEAST).log()

    @property
    def features(self) -> Float[Tensor, "rows passages heads"]:
        """The log-attention of all heads, layer by layer, for what has been seen."""
        return torch.cat(self._layers, -1)


class HeadWeights(Module):
    """A weight for each head, 0 at the start (so that all lists are equally probable), and a bias for
    "enough", the score of stopping."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = Parameter(torch.zeros(heads))
        self.bias = Parameter(torch.zeros(()))
        self.cache: FeatureCache | None = None
        """Features of prompts, where the model under it never changes."""

    def forward(
        self,
        features: Float[Tensor, "passages heads"],
        questions: int,
        owners: Int[Tensor, " passages"],
    ) -> tuple[Float[Tensor, " passages"], Float[Tensor, " questions"]]:
        """The score of each passage of question `owners[passage]`, and of "enough" for each question. The
        passages of a question are compared with their mean."""
        counted = torch.cat([features, torch.ones_like(features[:, :1])], 1)
        start = torch.zeros(questions, counted.shape[1], device=features.device)
        sums = start.index_add(0, owners, counted)
        means = sums[:, :-1] / sums[:, -1:]
        return (features - means[owners]) @ self.heads, self.bias.expand(questions)


class FeatureCache:
    """The features of the prompts that came last, by their token ids."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._numbers = 0

    def get(self, prompt: bytes) -> Tensor | None:
        """[passages, heads], on the CPU; None where they are not known."""
        if prompt in self._kept:
            self._kept.move_to_end(prompt)
        return self._kept.get(prompt)

    def put(self, prompt: bytes, features: Tensor) -> None:
        """Keep them, and let go of the oldest where there are too many."""
        if prompt in self._kept:  # a batch may have it twice
            return
        self._kept[prompt] = features.detach().cpu()
        self._numbers += features.numel()
        while self._numbers > _CACHED_NUMBERS and len(self._kept) > 1:
            self._numbers -= self._kept.popitem(last=False)[1].numel()
