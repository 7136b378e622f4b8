"""A key-value cache with room behind it, so that a step of decoding does not copy the prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values with room behind them, so that a step copies its own and not the prompt's.

    It keeps every position, also under a sliding window: the window is in our masks, counted in positions,
    where the library counts places in the cache.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [questions heads new width] to both; returns all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._stored = [key_states[:, :, :0], value_states[:, :, :0]]
        held, news = self.get_seq_length(), (key_states, value_states)
        length = held + key_states.shape[2]
        if length > self._stored[0].shape[2]:
            self._stored = [
                torch.cat(
                    [old[:, :, :held], new, new.new_empty(*new.shape[:2], length // 8 + 64, new.shape[3])], 2
                )
                for old, new in zip(self._stored, news, strict=True)
            ]
        else:
            for old, new in zip(self._stored, news, strict=True):
                old[:, :, held:length] = new
        self.keys, self.values = (stored[:, :, :length] for stored in self._stored)
        return self.keys, self.values
