"""Attention over packed token trees without an n x n mask.

In: a packed `TokenTree` (any number of questions, one behind another) and, in each layer, queries, keys and
values of its nodes. Out: what attention to ancestors alone gives, softmax(q k' + mask) v, with gradients.
The row is cut into blocks of queries. A tree's first chain (a prompt that everything shares), and every long
chain with less before it than in it, is one block of plain causal attention, for which there are fast
kernels; of the rest, a block takes two hundred nodes or so and attends to just the chains that some node of
it descends from, under a mask of that size. So the work is about that of the nodes' own attention, and
questions cost nothing to one another.

It is registered with transformers as the attention `ragdro_tree`, which without a plan is its `sdpa`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ragdro.lm.heads import AttentionProbe
from ragdro.lm.tree import Ints, TokenTree

TREE_ATTENTION = "ragdro_tree"
QUERIES_PER_BLOCK = 192
"""Nodes in a block with a mask: fewer waste less on what a mask hides, more make better matrix products."""


def attend_in_blocks(hf: PreTrainedModel) -> bool:
    """Let `hf` take plans wherever it used `sdpa`; false for a model that runs another attention.

    On a GPU cuDNN's kernel, which torch would prefer there, is switched off for the process: its backward
    pass gives gradients that are not numbers where a head pays all attention to one token, as heads of
    pretrained models do (pytorch #196678; seen with SmolLM2 on an H100 under torch 2.11).
    """
    if hf.device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)  # type: ignore[no-untyped-call]
    AttentionInterface.register(TREE_ATTENTION, tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, AttentionMaskInterface()["sdpa"])
    if hf.config._attn_implementation == "sdpa":  # where it cannot be set, the library leaves it as it is
        hf.set_attn_implementation(TREE_ATTENTION)
    return bool(hf.config._attn_implementation == TREE_ATTENTION)


@dataclass(frozen=True, slots=True, eq=False)
class BlockMask:
    """Queries `pieces[first:last]` of a cut row and which pieces they attend to.

    `visible` [queries, keys] says which they see; None is causal (the queries are the last of the keys).
    """

    first: int
    last: int
    keys: tuple[int, ...]
    visible: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True, eq=False)
class AttentionSchedule:
    """A row cut into pieces of `sizes` nodes, the blocks that cover it in order, and their masks."""

    sizes: list[int]
    blocks: list[BlockMask]
    masks: list[Tensor | None]


class Plan(ABC):
    """Who attends to whom in one row, in every layer."""

    @abstractmethod
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
        """The attention of one layer, [1, heads, nodes, width] in and out; `window` is a sliding one."""


class AttentionPlan(Plan):
    """The blocks of one packed row; a sliding window (in positions) has a cut of its own."""

    def __init__(self, tree: TokenTree, device: torch.device) -> None:
        self._tree = tree
        self._device = device
        self._schedules: dict[int | None, AttentionSchedule] = {}

    def schedule(self, window: int | None) -> AttentionSchedule:
        """The cut for layers with this window; one that nothing reaches is no window."""
        if window is not None and window > self._tree.positions.max():
            window = None
        if window not in self._schedules:
            self._schedules[window] = _schedule(self._tree, window, self._device)
        return self._schedules[window]

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
        schedule = self.schedule(window)
        # Split rather than sliced: the gradient of a split is one concatenation, that of a slice a whole row.
        keys, values = torch.split(key, schedule.sizes, 2), torch.split(value, schedule.sizes, 2)
        queries = torch.split(query, [sum(schedule.sizes[b.first : b.last]) for b in schedule.blocks], 2)
        outputs = []
        for q, block, mask in zip(queries, schedule.blocks, schedule.masks, strict=True):
            k, v = _joined(keys, block.keys), _joined(values, block.keys)
            lead = 0 if mask is not None else k.shape[2] - q.shape[2]
            if lead:  # causal kernels want as many queries as keys: the first are made up
                q = F.pad(q, (0, 0, lead, 0))
            out = grouped_attention(q, k, v, mask, dropout, scaling)[:, :, lead:]
            outputs.append(out)
        return torch.cat(outputs, 2)


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    plan: Plan | None = None,
    probe: AttentionProbe | None = None,
    sliding_window: int | None = None,
    **rest: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention of one layer: [1, heads, nodes, width] in, [1, nodes, heads, width] out; `probe` is shown
    its queries and keys."""
    if probe is not None:
        probe.see(query, key, scaling, sliding_window)
    if plan is None:
        rest["sliding_window"] = sliding_window
        plain: tuple[Tensor, None] = AttentionInterface()["sdpa"](
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **rest
        )
        return plain
    out = plan.attend(module, query, key, value, dropout, scaling, sliding_window)
    return out.transpose(1, 2).contiguous(), None


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, scaling: float | None
) -> Tensor:
    """softmax(q k' + mask) v of [rows, heads, width, channels], causal without a mask.

    Keys may have fewer heads than queries. They are repeated where no fast kernel takes them so: plain
    attention would hold all pairs.
    """
    groups = query.shape[1] // key.shape[1]
    grouped = mask is None and groups > 1 and _takes_groups(query)
    if groups > 1 and not grouped:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    return F.scaled_dot_product_attention(
        query, key, value, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )


def _takes_groups(query: Tensor) -> bool:
    """On a GPU flash attention alone takes grouped queries, without a mask and in 16 bits."""
    if query.device.type != "cuda":
        return True
    halves = query.dtype in (torch.float16, torch.bfloat16)
    return halves and bool(torch.backends.cuda.flash_sdp_enabled())  # type: ignore[no-untyped-call]


def _joined(pieces: Sequence[Tensor], which: tuple[int, ...]) -> Tensor:
    return pieces[which[0]] if len(which) == 1 else torch.cat([pieces[i] for i in which], 2)


def _schedule(tree: TokenTree, window: int | None, device: torch.device) -> AttentionSchedule:
    """Chains cut into pieces, neighbouring pieces joined to blocks of at most `QUERIES_PER_BLOCK`."""
    pieces: list[tuple[int, int]] = []
    causal: set[int] = set()
    for start, stop in tree.chains():
        lead, length = int(tree.positions[start]), stop - start
        plain = lead == 0 or QUERIES_PER_BLOCK // 2 <= length >= lead
        if plain and (window is None or lead + length <= window):
            causal.add(len(pieces))
            pieces.append((start, stop))
        else:
            steps = range(start, stop, QUERIES_PER_BLOCK)
            pieces.extend((begin, min(begin + QUERIES_PER_BLOCK, stop)) for begin in steps)
    blocks: list[BlockMask] = []
    first, begins = 0, np.array([start for start, _ in pieces])
    for i in range(len(pieces)):
        last = i + 1
        goes_on = last < len(pieces) and causal.isdisjoint((i, last))
        if goes_on and pieces[last][1] - pieces[first][0] <= QUERIES_PER_BLOCK:
            continue
        seen = _seen(tree, begins[:last], first)
        blocks.append(
            BlockMask(i, last, seen, None)
            if i in causal
            else _masked_block(tree, pieces[:last], first, window, seen)
        )
        first = last
    masks = [None if b.visible is None else torch.from_numpy(b.visible).to(device) for b in blocks]
    return AttentionSchedule([stop - start for start, stop in pieces], blocks, masks)


def _masked_block(
    tree: TokenTree,
    pieces: Sequence[tuple[int, int]],
    first: int,
    window: int | None,
    chosen: tuple[int, ...],
) -> BlockMask:
    """The block of the pieces from `first` on: which of the `chosen` ones so far they see, and the mask."""
    begin, stop = pieces[first][0], pieces[-1][1]
    if window is not None:
        reach = tree.positions[begin:stop].min() - window
        chosen = tuple(i for i in chosen if tree.positions[pieces[i][1] - 1] > reach)
    keys: Ints = np.concatenate([np.arange(*pieces[i]) for i in chosen])
    visible = tree.visible(slice(begin, stop), keys)
    if window is not None:
        visible &= tree.positions[begin:stop, None] - tree.positions[keys] < window
    return BlockMask(first, len(pieces), chosen, visible)


def _seen(tree: TokenTree, begins: Ints, first: int) -> tuple[int, ...]:
    """Which of the pieces that begin there those from `first` on descend from, or are."""
    # A piece is part of a chain, so its nodes have one subtree end: if one of them is an ancestor, all are.
    return tuple(np.flatnonzero(tree.ends[begins] > begins[first]).tolist())
