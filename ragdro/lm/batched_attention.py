"""The blocks of `ragdro.lm.attention`, those of like size computed together.

In: a packed `TokenTree` and each layer's queries, keys and values. Out: the same as of an `AttentionPlan`.
There a block is some calls of its own, which a CPU does not notice; a GPU takes longer to be told of a small
block than to compute it. Here blocks are gathered into few batches, padded to the longest of each: a layer is
a handful of calls however many blocks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ragdro.lm.attention import AttentionPlan, AttentionSchedule, Plan, grouped_attention
from ragdro.lm.dense_attention import DenseAttentionPlan, is_short, rows
from ragdro.lm.tree import Ints, TokenTree

_LEAST_FULL = 0.75
"""The shortest block of a batch over the longest."""
_LONG = 1024
"""Keys of a causal block that takes long enough to compute alone."""
_MOST_KEYS = 2**17
"""Of all blocks of a batch: what is gathered is held until the backward pass."""


Nodes = Int[Tensor, "_ _"] | slice


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Blocks padded to one size: which nodes they are [blocks, width], and what they see (None: what stands
    before). One whose nodes stand behind one another is a slice of them, of which no copy is made."""

    keys: Nodes
    queries: Nodes
    visible: Bool[Tensor, "blocks 1 queries keys"] | None


@dataclass(frozen=True, slots=True, eq=False)
class BatchSchedule:
    """All batches, and for each node its place among their queries, one batch behind another."""

    batches: list[Batch]
    places: Int[Tensor, " nodes"]


@dataclass(frozen=True, slots=True, eq=False)
class _BlockNodes:
    keys: Ints
    queries: Ints
    read: Ints
    """Those of the queries whose outputs are read, by their places."""
    visible: np.ndarray | None


class BatchedAttentionPlan(AttentionPlan):
    """The batches of one packed row."""

    def __init__(self, tree: TokenTree, device: torch.device) -> None:
        super().__init__(tree, torch.device("cpu"))
        self._onto = device
        self._batched: dict[int | None, BatchSchedule] = {}

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
        schedule = self._batches(window)
        outputs = []
        for batch in schedule.batches:
            q, k, v = _rows(query, batch.queries), _rows(key, batch.keys), _rows(value, batch.keys)
            out = grouped_attention(q, k, v, batch.visible, dropout, scaling)
            outputs.append(out.transpose(0, 1).flatten(1, 2))
        return torch.cat(outputs, 1).index_select(1, schedule.places)[None]

    def _batches(self, window: int | None) -> BatchSchedule:
        if window not in self._batched:
            self._batched[window] = _batched(self.schedule(window), self._onto)
        return self._batched[window]


def attention_plan(tree: TokenTree, device: torch.device, batched: bool, width: int) -> Plan:
    """A row's plan for a model of this width: its blocks one by one, or as few calls (short trees whole, long
    ones' blocks in batches)."""
    if not batched:
        return AttentionPlan(tree, device)
    if is_short(tree, width):
        return DenseAttentionPlan(tree, device)
    return BatchedAttentionPlan(tree, device)


def _rows(states: Tensor, nodes: Nodes) -> Tensor:
    """[blocks, heads, width, channels] of [1, heads, nodes, channels]."""
    return states[:, :, nodes] if isinstance(nodes, slice) else rows(states, nodes)


def _batched(schedule: AttentionSchedule, device: torch.device) -> BatchSchedule:
    blocks = _blocks_of(schedule)
    batches: list[Batch] = []
    places = np.empty(sum(schedule.sizes), np.int64)
    begin = 0
    for chosen in _alike(blocks):
        queries, keys = max(len(b.queries) for b in chosen), len(chosen[0].keys)
        for i, block in enumerate(chosen):
            places[block.queries[block.read]] = begin + i * queries + block.read
        begin += len(chosen) * queries
        batches.append(_padded(chosen, queries, keys, device))
    return BatchSchedule(batches, torch.from_numpy(places).to(device))


def _blocks_of(schedule: AttentionSchedule) -> list[_BlockNodes]:
    ends = np.cumsum(schedule.sizes)
    starts = ends - schedule.sizes
    blocks = []
    for block in schedule.blocks:
        keys: Ints = np.concatenate([np.arange(starts[i], ends[i]) for i in block.keys])
        queries: Ints = np.arange(starts[block.first], ends[block.last - 1])
        if block.visible is None:  # the queries are the last of the keys: those before them are made up
            blocks.append(_BlockNodes(keys, keys, np.arange(len(keys) - len(queries), len(keys)), None))
        else:
            blocks.append(_BlockNodes(keys, queries, np.arange(len(queries)), block.visible))
    return blocks


def _alike(blocks: Sequence[_BlockNodes]) -> list[list[_BlockNodes]]:
    """Blocks of one kind and of about as many keys, the longest first."""
    batches: list[list[_BlockNodes]] = []
    for causal in (True, False):
        kind = [b for b in blocks if (b.visible is None) == causal]
        for block in sorted(kind, key=lambda b: -len(b.keys)):
            longest = len(batches[-1][0].keys) if batches else 0
            same = batches and (batches[-1][0].visible is None) == causal
            room = batches and (len(batches[-1]) + 1) * longest <= _MOST_KEYS
            long = causal and longest > _LONG
            if same and room and not long and len(block.keys) >= _LEAST_FULL * longest:
                batches[-1].append(block)
            else:
                batches.append([block])
    return batches


def _padded(blocks: Sequence[_BlockNodes], queries: int, keys: int, device: torch.device) -> Batch:
    """What is made up reads the row's first node; nothing reads it."""
    key_nodes, query_nodes = (np.zeros((len(blocks), width), np.int64) for width in (keys, queries))
    visible = None
    if blocks[0].visible is not None:
        visible = np.zeros((len(blocks), 1, queries, keys), bool)
        visible[..., 0] = True  # a query that sees nothing would not be a number
    for i, block in enumerate(blocks):
        key_nodes[i, : len(block.keys)] = block.keys
        query_nodes[i, : len(block.queries)] = block.queries
        if visible is not None:
            visible[i, 0, : len(block.queries)] = False
            visible[i, 0, : len(block.queries), : len(block.keys)] = block.visible
    seen = None if visible is None else torch.from_numpy(visible).to(device)
    return Batch(_nodes(key_nodes, device), _nodes(query_nodes, device), seen)


def _nodes(which: Ints, device: torch.device) -> Nodes:
    if len(which) == 1 and (np.diff(which[0]) == 1).all():
        return slice(int(which[0, 0]), int(which[0, -1]) + 1)
    return torch.from_numpy(which).to(device)
