"""Attention over packed token trees with one mask a tree, for trees that are short.

In: a packed `TokenTree` and each layer's queries, keys and values. Out: the same as of an `AttentionPlan`.
A tree that is read whole under a mask costs the products that the mask hides, and few calls: a layer has one
batch of trees of like size. On a GPU that is the shorter way for a small model's short trees, where calls
cost more than products do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ragdro.lm.attention import Plan, grouped_attention
from ragdro.lm.tree import Ints, TokenTree

MOST_WORK = 1e10
"""Pairs of a row's nodes, within its trees, times the model's width: where more, hidden products cost more
than calls do (on an H100; `benchmarks/README.md`)."""
_LEAST_FULL = 0.6
"""The shortest tree of a batch over the longest."""
_ALIGNED = 8
"""Fast kernels take masks whose rows are a multiple of this long."""


@dataclass(frozen=True, slots=True, eq=False)
class _Trees:
    """Trees padded to one length with their own first node: `nodes` and where their subtrees end."""

    nodes: Int[Tensor, "trees width"]
    ends: Int[Tensor, "trees width"]
    positions: Int[Tensor, "trees width"]

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """What is added to the logits, [trees, 1, queries, keys]."""
        query, key = self.nodes[:, :, None], self.nodes[:, None]
        seen = (key <= query) & (query < self.ends[:, None])
        if window is not None:
            seen &= self.positions[:, :, None] - self.positions[:, None] < window
        added = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return added.masked_fill_(~seen, -torch.inf)[:, None]


class DenseAttentionPlan(Plan):
    """The trees of one packed row, those of like length together."""

    def __init__(self, tree: TokenTree, device: torch.device) -> None:
        starts = np.flatnonzero(tree.positions == 0)
        lengths = np.diff(starts, append=len(tree))
        places = np.empty(len(tree), np.int64)
        self._batches: list[_Trees] = []
        begin = 0
        for chosen in _alike(lengths):
            width = -(-int(lengths[chosen[0]]) // _ALIGNED) * _ALIGNED
            nodes = np.repeat(starts[chosen, None], width, 1)
            ends = np.zeros_like(nodes)  # what is made up is seen by nobody
            for row, i in enumerate(chosen):
                own = np.arange(starts[i], starts[i] + lengths[i])
                nodes[row, : len(own)], ends[row, : len(own)] = own, tree.ends[own]
                places[own] = begin + row * width + np.arange(len(own))
            begin += nodes.size
            arrays = (nodes, ends, tree.positions[nodes])
            self._batches.append(_Trees(*(torch.from_numpy(array).to(device) for array in arrays)))
        self._places = torch.from_numpy(places).to(device)
        self._masks: dict[tuple[int | None, torch.dtype], list[Tensor]] = {}

    def attend(
        self,
        layer: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """One layer's attention."""
        key_of = (window, query.dtype)
        if key_of not in self._masks:  # made once: every layer's backward pass holds the same
            self._masks[key_of] = [trees.mask(window, query.dtype) for trees in self._batches]
        outputs = []
        for trees, mask in zip(self._batches, self._masks[key_of], strict=True):
            q, k, v = (rows(states, trees.nodes) for states in (query, key, value))
            out = grouped_attention(q, k, v, mask, dropout, scaling)
            outputs.append(out.transpose(0, 1).flatten(1, 2))
        return torch.cat(outputs, 1).index_select(1, self._places)[None]


def is_short(tree: TokenTree, width: int) -> bool:
    """Whether a packed row's trees are short enough to be read whole by a model of this width."""
    lengths = np.diff(np.flatnonzero(tree.positions == 0), append=len(tree))
    return float(lengths @ lengths) * width <= MOST_WORK


def rows(states: Tensor, nodes: Int[Tensor, "rows width"]) -> Tensor:
    """[rows, heads, width, channels] of [1, heads, nodes, channels]."""
    gathered = states[0].index_select(1, nodes.flatten())
    return gathered.view(len(gathered), *nodes.shape, gathered.shape[-1]).transpose(0, 1)


def _alike(lengths: Ints) -> list[list[int]]:
    """Which trees are computed together, the longest first."""
    batches: list[list[int]] = []
    for i in np.argsort(-lengths, kind="stable").tolist():
        if batches and lengths[i] >= _LEAST_FULL * lengths[batches[-1][0]]:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
