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

    def fill(self, rows: slice, size: tuple[int, int], key_states: Tensor, value_states: Tensor) -> None:
        """Keep what the first tokens of some of `size` = (all rows, their width) left, and 0 behind them."""
        total, width = size
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._stored = [
                new.new_empty(total, new.shape[1], width + _room(width), new.shape[3])
                for new in (key_states, value_states)
            ]
            self.keys, self.values = (stored[:, :, :width] for stored in self._stored)
        for held, new in zip((self.keys, self.values), (key_states, value_states), strict=True):
            held[rows, :, : new.shape[2]] = new
            held[rows, :, new.shape[2] :] = 0

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
                    [old[:, :, :held], new, new.new_empty(*new.shape[:2], _room(length), new.shape[3])], 2
                )
                for old, new in zip(self._stored, news, strict=True)
            ]
        else:
            for old, new in zip(self._stored, news, strict=True):
                old[:, :, held:length] = new
        self.keys, self.values = (stored[:, :, :length] for stored in self._stored)
        return self.keys, self.values


def _room(length: int) -> int:
    """Places behind what is held."""
    return length // 8 + 64
