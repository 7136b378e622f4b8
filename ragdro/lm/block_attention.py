"""Attention over a row of blocks and tails: a block's keys and values serve every list that it stands in.

In: a `BlockRow` and, in each layer, queries, keys and values of its nodes. Out: what attention gives where a
block's tokens see those before them in the block, and a tail's tokens see all blocks of its list and what is
before them in the tail; with gradients, which a block's keys and values gather from all lists. A list's keys
are turned to their places in it (`ragdro.lm.rotation`); sliding windows are counted in these places.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import Module

from ragdro.lm.attention import Plan, grouped_attention
from ragdro.lm.blocks import BlockList
from ragdro.lm.passage_states import Reuse
from ragdro.lm.rotation import Angles, Rotation


class BlockPlan(Plan):
    """The attention of one row, of which `reuse` says what is known. `kept` gets, for each layer, the keys
    and values that the end of each text would see, padded in front: two tensors [texts, heads, longest,
    width]."""

    def __init__(
        self,
        reuse: Reuse,
        rotation: Rotation,
        device: torch.device,
        kept: dict[int, tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self._reuse = reuse
        self._row = reuse.row
        self._rotation = rotation
        self._device = device
        self._angles: dict[str | None, list[Angles]] = {}
        self._masks: dict[tuple[int, int | None, int], Bool[Tensor, "queries keys"]] = {}
        self._kept = kept

    def further_flops(self, flops: Callable[[Tensor], float]) -> float:
        """What is computed beside the row's nodes; `flops` of all layers for tokens at these positions."""
        return 0.0

    def finish(self, hidden: Float[Tensor, "computed width"]) -> Float[Tensor, "nodes width"]:
        """The states of all of the row's nodes from those that were computed."""
        return self._reuse.finish(hidden)

    def attend(
        self,
        layer: Module,
        query: Float[Tensor, "1 heads nodes width"],
        key: Float[Tensor, "1 kv_heads nodes width"],
        value: Float[Tensor, "1 kv_heads nodes values"],
        dropout: float,
        scaling: float | None,
        window: int | None,
    ) -> Float[Tensor, "1 heads nodes values"]:
        """One layer's attention."""
        row, count = self._row, len(self._row.blocks)
        queries, keys, values = (list(torch.split(x, self._reuse.sizes, 2)) for x in (query, key, value))
        groups = query.shape[1] // key.shape[1]
        outputs = [
            _within(q, k, v, dropout, scaling, window)
            for q, k, v in zip(queries[:count], keys[:count], values[:count], strict=True)
            if q.shape[2]
        ]
        keys, values = self._reuse.states(layer, keys, values)
        angles = self._angles_of(layer) if self._rotation.turns(layer) else None
        read = []
        for i, each in enumerate(row.lists):
            k = torch.cat([key[:, :, :0], *(keys[b] for b in each.blocks)], 2)
            v = torch.cat([value[:, :, :0], *(values[b] for b in each.blocks)], 2)
            if angles is not None:
                k = self._rotation.turned(layer, k, angles[i])
            k, v = torch.cat([k, keys[count + i]], 2), torch.cat([v, values[count + i]], 2)
            if self._kept is not None:
                read.append((k, v))
            q = queries[count + i]
            if q.shape[2]:
                mask = self._mask(i, window, groups)
                outputs.append(_across(q, k, v, mask, dropout, scaling))
        if self._kept is not None:
            self._kept[layer.layer_idx] = self._gathered(read)  # type: ignore[index]
        return torch.cat(outputs, 2)

    def _angles_of(self, layer: Module) -> list[Angles]:
        """For each list those that turn its blocks' keys to their places."""
        kind = self._rotation.layer_type(layer)
        if kind not in self._angles:
            lists = self._row.lists
            sizes = [[len(self._row.blocks[b]) for b in each.blocks] for each in lists]
            distances = [np.repeat(each.starts, s) for each, s in zip(lists, sizes, strict=True)]
            cos, sin = self._rotation.angles(
                torch.from_numpy(np.concatenate(distances)).to(self._device), kind
            )
            lengths = [each.length for each in lists]
            self._angles[kind] = list(
                zip(torch.split(cos, lengths, 1), torch.split(sin, lengths, 1), strict=True)
            )
        return self._angles[kind]

    def _mask(self, number: int, window: int | None, groups: int) -> Bool[Tensor, "queries keys"]:
        """What a list's tail sees: once for each of the heads that share keys."""
        each = self._row.lists[number]
        if window is not None and window > each.places.max():
            window = None  # nothing is out of its reach
        name = (number, window, groups)
        if name not in self._masks:
            seen = np.tile(_visible(each, window), (groups, 1))
            self._masks[name] = torch.from_numpy(seen).to(self._device)
        return self._masks[name]

    def _gathered(self, read: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        row = self._row
        width = max(len(text.tokens) for text in row.texts)
        kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        for owner, path in zip(row.owners, row.paths, strict=True):
            length = row.lists[owner].length
            begin = sum(row.sizes[: len(row.blocks) + owner])
            behind = path >= begin
            columns = path - begin + length
            columns[~behind] = np.flatnonzero(row.lists[owner].read)
            own = torch.from_numpy(columns).to(self._device)
            for x, into in zip(read[owner], kept, strict=True):
                states = x[:, :, own]
                into.append(F.pad(states, (0, 0, width - states.shape[2], 0)))
        return torch.cat(kept[0]), torch.cat(kept[1])


def _visible(each: BlockList, window: int | None) -> np.ndarray:
    """[tail, blocks' tokens and tail]."""
    seen = np.concatenate([each.read & (each.at < each.places[:, None]), each.tail.visible()], 1)
    if window is not None:
        seen &= each.places[:, None] - np.concatenate([each.at, each.places]) < window
    return seen


def _within(
    q: Tensor, k: Tensor, v: Tensor, dropout: float, scaling: float | None, window: int | None
) -> Tensor:
    """A block's attention to itself."""
    length, groups = q.shape[2], q.shape[1] // k.shape[1]
    if window is None or window >= length:
        return grouped_attention(q, k, v, None, dropout, scaling)
    places = torch.arange(length, device=q.device)
    behind = places[:, None] - places
    seen = ((behind >= 0) & (behind < window)).repeat(groups, 1)
    return _across(q, k, v, seen, dropout, scaling)


def _across(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, dropout: float, scaling: float | None) -> Tensor:
    """Attention under a mask [heads in a group * queries, keys]: heads with the same keys are more queries,
    so that the keys need not be repeated for them."""
    heads, kv_heads = q.shape[1], k.shape[1]
    folded = q.reshape(1, kv_heads, heads // kv_heads * q.shape[2], q.shape[3])
    out = F.scaled_dot_product_attention(folded, k, v, attn_mask=seen, dropout_p=dropout, scale=scaling)
    return out.reshape(1, heads, q.shape[2], v.shape[3])
