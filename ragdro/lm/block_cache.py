"""What a model has read, in blocks, as a cache to write from; and which models can read so.

In: texts of blocks with a tail. Out: a key-value cache of the library's own, one row a text, padded in front,
from which its `generate` goes on. Every block is computed once for all texts that hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from ragdro.lm.blocks import BlockRow, BlockText
from ragdro.lm.cache import RoomyLayer
from ragdro.lm.model import LanguageModel
from ragdro.lm.rotation import refusal
from ragdro.lm.scoring import SequenceGroup
from ragdro.lm.tree import MaskedText, ScoredSequence


def require_blocks(model: LanguageModel) -> None:
    """Raises `ConfigError` where the model cannot read passages as blocks, as far as its config says. What
    only a pass through it shows is raised by the first one."""
    name = model.tokenizer.name
    if not model.shows_attention:
        raise refusal(name, "blocks need generator.attention: sdpa, and a model that has it")
    if not model.masks_are_understood:
        raise refusal(name, "it has layers that are not attention")
    if model.length_classes is not None:
        raise refusal(name, "its frequencies depend on a sequence's length")
    model.require_rotation()


@torch.no_grad()
def block_cache(model: LanguageModel, texts: Sequence[BlockText]) -> DynamicCache:
    """The cache of all tokens of every text but its last, which is the first to be given to the model."""
    read = [BlockText(text.tokens[:-1], text.ends, text.links) for text in texts]
    if _shares(model, max(texts, key=lambda text: len(text.tokens))):
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        model.block_hidden(BlockRow.build(read), kept)
    else:
        model.note_fallbacks(len(texts))
        kept = _separately(model, read)
    cache = DynamicCache(config=model.hf.config.get_text_config())
    for layer, (keys, values) in sorted(kept.items()):
        cache.update(keys, values, layer)
    return cache


def _shares(model: LanguageModel, text: BlockText) -> bool:
    """Whether blocks computed once are what the model computes; looked at with this text if not known yet."""
    tokens = np.append(text.tokens, model.tokenizer.end_id)
    sequence = ScoredSequence(tokens, np.array([len(text.tokens)]), blocks=text.ends, links=text.links)
    return SequenceGroup.one_pass(model, SequenceGroup.of([sequence]))


def _separately(model: LanguageModel, texts: Sequence[BlockText]) -> dict[int, tuple[Tensor, Tensor]]:
    """Each layer's keys and values [texts, heads, longest, width], padded in front; a pass for each text."""
    width = max(len(text.tokens) for text in texts)
    layers: dict[int, list[tuple[Tensor, ...]]] = {}
    for text in texts:
        cache = Cache(layer_class_to_replicate=RoomyLayer)
        masked = MaskedText.of(text.tokens, text.ends, text.links)
        tokens, places, visible, path = (
            torch.from_numpy(x).to(model.device)[None]
            for x in (masked.tokens, masked.positions, masked.visible, masked.path)
        )
        model.hidden(tokens, places, visible, cache=cache)
        for number, layer in enumerate(cache.layers):
            pads = (0, 0, width - len(text.tokens), 0)
            states = tuple(F.pad(x[:, :, path[0]], pads) for x in (layer.keys, layer.values))
            layers.setdefault(number, []).append(states)
    return {
        number: (torch.cat([k for k, _ in states]), torch.cat([v for _, v in states]))
        for number, states in layers.items()
    }
