"""Reading prompts into a key-value cache, with nothing computed that nobody reads.

In: prompts. Out: the cache of all their tokens, a row each. No hidden state is asked for, so a pass ends
where the last layer has its keys and values: its attention and its feed-forward layer are left out. On a CPU
many prompts are read a few at a time: what a layer hands to the next one stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers.cache_utils import Cache

from ragdro.lm.cache import RoomyLayer
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints
from ragdro.profiling import active_profile

_NUMBERS_AT_ONCE = 2**19
"""In the hidden states of a part on a CPU: 2 MiB in float32."""
_LEAST_TOKENS = 512
"""Of a part: fewer make poor matrix products."""


def prefill(model: LanguageModel, prompts: Sequence[Ints]) -> Cache:
    """The cache of the prompts' tokens, padded behind to the longest (to one token at least)."""
    cache = Cache(layer_class_to_replicate=RoomyLayer)
    last = int(model.hf.config.get_text_config().num_hidden_layers) - 1 if _stops(model) else None
    size = (len(prompts), max(1, max(map(len, prompts))))
    for rows in _parts(model, prompts):
        part = prompts[rows]
        tokens = np.full((len(part), max(1, max(map(len, part)))), model.tokenizer.pad_id, np.int64)
        for row, prompt in enumerate(part):
            tokens[row, : len(prompt)] = prompt
        positions = np.tile(np.arange(tokens.shape[1]), (len(part), 1))
        ids, places = (torch.from_numpy(x).to(model.device) for x in (tokens, positions))
        try:
            model.hidden(ids, places, cache=_Part(cache, rows, size, last))
        except _AllKeptError:
            _note_left_out(model, places)
    return cache


class _AllKeptError(Exception):
    """All layers have their keys and values: the rest of the pass is for nobody."""


class _Part(Cache):  # type: ignore[misc]
    """Where a pass over some of a cache's rows puts its keys and values; to the pass it is empty. It ends the
    pass at layer `last`."""

    def __init__(self, cache: Cache, rows: slice, size: tuple[int, int], last: int | None) -> None:
        super().__init__(layer_class_to_replicate=RoomyLayer)
        self._whole, self._rows, self._size, self._last = cache, rows, size, last

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep [rows heads width channels] of both; what the rows attend to is these alone."""
        while len(self._whole.layers) <= layer_idx:
            self._whole.layers.append(RoomyLayer())
        self._whole.layers[layer_idx].fill(self._rows, self._size, key_states, value_states)
        if layer_idx == self._last:
            raise _AllKeptError
        return key_states, value_states


def _stops(model: LanguageModel) -> bool:
    """Whether a pass may be left where it is: not where others wait for its end (FSDP, ZeRO)."""
    return model.zero_stage is None and not isinstance(model.hf.get_decoder(), FSDPModule)


def _note_left_out(model: LanguageModel, positions: Tensor) -> None:
    """Take back what the profile, if there is one, was told of the last layer: it has made queries, keys and
    values alone."""
    if active_profile() is None:
        return
    config = model.hf.config.get_text_config()
    heads, layers = int(config.num_attention_heads), int(config.num_hidden_layers)
    width = int(getattr(config, "head_dim", None) or model.width // heads)
    made = (heads + 2 * int(getattr(config, "num_key_value_heads", None) or heads)) * width
    model.note(0, 2.0 * positions.numel() * made * model.width - model.flops(positions) / layers)


def _parts(model: LanguageModel, prompts: Sequence[Ints]) -> Iterator[slice]:
    """Neighbouring rows that are read together; the fewer passes, the better where there is a GPU."""
    most = max(_LEAST_TOKENS, _NUMBERS_AT_ONCE // model.width)
    if model.device.type != "cpu" or not _stops(model):
        yield slice(0, len(prompts))
        return
    start, longest = 0, 0
    for row, prompt in enumerate(prompts):
        longest = max(longest, len(prompt))
        if row > start and (row + 1 - start) * longest > most:
            yield slice(start, row)
            start, longest = row, len(prompt)
    yield slice(start, len(prompts))
