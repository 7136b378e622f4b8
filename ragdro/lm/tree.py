"""Sequences that share beginnings, as one tree of tokens: each shared token is computed once.

In: the token sequences of one question (the selector's prompt with m continuations, or the
generator's prompts for m permutations). Out: flat arrays (token, position, where its subtree ends) from
which `ragdro.lm.scoring` makes one forward pass that equals the separate passes exactly, because a node
attends to its ancestors and itself and sits at its depth's position. Trees packed one behind another are
a row of the same kind: a node's ancestors lie in its own tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Links:
    """So many tokens (`count`) of each block but the first see all that stands before them: its last ones or,
    with `again`, its first ones computed once more. What is behind sees these in place of the block's own
    first tokens, which the rest of the block has seen alone."""

    count: int = 0
    again: bool = False


NO_LINKS = Links()


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """A token sequence and which of its tokens count towards its log-probability.

    `tokens` [length]; `targets` [scored]: positions t >= 1 whose token is scored given those before it (none:
    the sequence is certain, its log-probability 0); `allowed`: None (the whole vocabulary competes) or, for
    each target, the ids that compete, the target's own among them. `blocks`: None, or how many tokens
    there are up to the end of each of the blocks that it begins with: they see themselves alone
    (`ragdro.lm.blocks`), so that nothing says what a block or the tail behind them begins with. `links`:
    which tokens of a block see all that stands before them.
    """

    tokens: Ints
    targets: Ints
    allowed: tuple[Ints, ...] | None = None
    blocks: Ints | None = None
    links: Links = NO_LINKS

    def __post_init__(self) -> None:
        assert np.issubdtype(self.targets.dtype, np.integer)
        assert not self.targets.size or 1 <= self.targets.min() <= self.targets.max() < len(self.tokens)
        assert self.allowed is None or len(self.allowed) == len(self.targets)
        if self.blocks is not None:
            assert not np.isin(self.targets, self.blocks).any()
            assert self.targets.max(initial=0) > self.blocks.max(initial=0)

    @property
    def inputs(self) -> Ints:
        """The tokens the model must read: those before the last target, one at least."""
        return self.tokens[: int(self.targets.max(initial=1))]

    def whole(self) -> ScoredSequence:
        """The same tokens with every one but the first (of each block) scored over the whole vocabulary."""
        targets = np.arange(1, len(self.tokens))
        if self.blocks is not None:
            targets = np.setdiff1d(targets, self.blocks)
        return ScoredSequence(self.tokens, targets, blocks=self.blocks, links=self.links)

    def masked(self) -> MaskedText:
        """The inputs, which begin with blocks, as one ordinary pass reads them."""
        assert self.blocks is not None
        return MaskedText.of(self.inputs, self.blocks, self.links)


@dataclass(frozen=True, slots=True, eq=False)
class TokenTree:
    """A trie of sequences in depth-first order of the sorted sequences.

    `tokens`, `positions` [nodes]: a node's token and its depth; `ends` [nodes]: the first node that is no
    longer in its subtree, so that q attends to k where k <= q < ends[k]; `paths`: for each sequence, in the
    order given, the nodes it runs through.
    """

    tokens: Ints
    positions: Ints
    ends: Ints
    paths: tuple[Ints, ...]

    @classmethod
    def build(cls, sequences: Sequence[Ints]) -> TokenTree:
        """The trie of `sequences`; equal ones share one path."""
        order = sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())
        paths: list[Ints] = [np.empty(0, np.int64)] * len(sequences)
        starts: list[tuple[int, int, int]] = []
        size, previous = 0, -1
        for i in order:
            shared = 0 if previous < 0 else _common_prefix(sequences[previous], sequences[i])
            fresh = len(sequences[i]) - shared
            paths[i] = np.concatenate([paths[previous][:shared], np.arange(size, size + fresh)])
            starts.append((i, shared, size))
            size, previous = size + fresh, i
        tokens, positions = np.empty(size, np.int64), np.empty(size, np.int64)
        ends = np.full(size, size)
        for place, (i, shared, start) in enumerate(starts):
            nodes = paths[i][shared:]
            tokens[nodes], positions[nodes] = sequences[i][shared:], np.arange(shared, len(sequences[i]))
            if place:  # the nodes that the sequence before does not share are closed where this one starts
                ends[paths[starts[place - 1][0]][shared:]] = start
        return cls(tokens, positions, ends, tuple(paths))

    @classmethod
    def pack(cls, trees: Sequence[TokenTree]) -> TokenTree:
        """The trees as one row, one behind another; no node sees another tree's."""
        offsets = np.cumsum([0, *(len(tree) for tree in trees)])
        return cls(
            np.concatenate([tree.tokens for tree in trees]),
            np.concatenate([tree.positions for tree in trees]),
            np.concatenate([tree.ends + offset for tree, offset in zip(trees, offsets, strict=False)]),
            tuple(path + offset for tree, offset in zip(trees, offsets, strict=False) for path in tree.paths),
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def chains(self) -> list[tuple[int, int]]:
        """[start, stop) of each longest run of nodes without a branching in it, in order; they cover all."""
        goes_on = (self.positions[1:] == self.positions[:-1] + 1) & (self.ends[1:] == self.ends[:-1])
        cuts = [0, *(np.flatnonzero(~goes_on) + 1).tolist(), len(self)]
        return list(pairwise(cuts))

    def visible(self, queries: Ints | slice = _ALL, keys: Ints | slice = _ALL) -> NDArray[np.bool_]:
        """[queries, keys]: whether the row's node attends to the column's (its ancestors and itself)."""
        nodes = np.arange(len(self))
        query, key = nodes[queries, None], nodes[keys]
        return (key <= query) & (query < self.ends[keys])


@dataclass(frozen=True, slots=True, eq=False)
class MaskedText:
    """A text that begins with blocks, for one ordinary pass: `tokens`, `positions` [nodes], whether the row's
    node attends to the column's (`visible` [nodes, nodes]), and which node each token of the text is (`path`
    [length]). There are more nodes than tokens where some are computed again."""

    tokens: Ints
    positions: Ints
    visible: NDArray[np.bool_]
    path: Ints

    @classmethod
    def of(cls, tokens: Ints, ends: Ints, links: Links = NO_LINKS) -> MaskedText:
        """Of a text whose blocks end at `ends`."""
        places = np.arange(len(tokens))
        numbers = np.searchsorted(ends, places, side="right")
        starts, stops = np.append(0, ends)[numbers], np.append(ends, len(tokens))[numbers]
        linked, tail = (numbers > 0) & (numbers < len(ends)), numbers == len(ends)
        again = linked & (places - starts < links.count) & links.again
        sees_all = tail | (linked & (stops - places <= links.count) & (not links.again))
        nodes = np.concatenate([places, places[again]])
        fresh = np.arange(len(nodes)) >= len(tokens)
        path = places.copy()
        path[again] = np.flatnonzero(fresh)
        all_before = np.where(fresh, True, sees_all[nodes])[:, None]
        alone = (numbers[nodes][:, None] == numbers[nodes]) & ~fresh
        seen = np.where(all_before, fresh | ~again[nodes], alone) & (nodes <= nodes[:, None])
        return cls(tokens[nodes], nodes, seen, path)


def _common_prefix(a: Ints, b: Ints) -> int:
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if different.size else length
