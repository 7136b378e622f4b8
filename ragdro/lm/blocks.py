"""Texts made of blocks: each block sees itself alone, what follows the blocks sees them all.

In: token sequences that begin with blocks (the passages of a list, say), and where each block ends. Out:
one row of tokens in which every distinct block stands once, whatever lists it is in and wherever in them,
followed by the tails: what stands behind the blocks of a list, as a tree of tokens where several share them.
A block's tokens are at the positions 0, 1, … in the row; a tail's are at those that it has in its list.
Attention turns a block's keys to their place in each list (`ragdro.lm.block_attention`), so a pass over the
row equals one pass for each sequence under the same visibility (Block-Attention, arXiv 2409.15355).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from ragdro.lm.tree import Ints, TokenTree


@dataclass(frozen=True, slots=True, eq=False)
class BlockText:
    """`tokens` [length]; `ends` [blocks]: how many tokens there are up to the end of each block."""

    tokens: Ints
    ends: Ints

    @property
    def pieces(self) -> list[Ints]:
        """The tokens of each block, and of the tail."""
        return [self.tokens[a:b] for a, b in pairwise([0, *self.ends.tolist(), len(self.tokens)])]


@dataclass(frozen=True, slots=True, eq=False)
class BlockList:
    """Blocks in reading order, by their numbers in the row, and what is read behind them.

    `starts`: the position at which each begins; `length`: that of all blocks, where the tail begins.
    """

    blocks: tuple[int, ...]
    starts: Ints
    length: int
    tail: TokenTree


@dataclass(frozen=True, slots=True, eq=False)
class BlockRow:
    """The row: first each of the `blocks` [tokens], then each list's tail, in order.

    `paths`: for each text, in the order given, the nodes that its tokens are; `owners`: which list it is of.
    """

    tokens: Ints
    positions: Ints
    blocks: tuple[Ints, ...]
    lists: tuple[BlockList, ...]
    paths: tuple[Ints, ...]
    owners: tuple[int, ...]
    texts: tuple[BlockText, ...]

    @classmethod
    def build(cls, texts: Sequence[BlockText]) -> BlockRow:
        """Equal blocks are one, and so are the tails' shared beginnings behind equal lists of blocks."""
        numbers: dict[bytes, int] = {}
        blocks: list[Ints] = []
        members: dict[tuple[int, ...], list[int]] = {}
        pieces = [text.pieces for text in texts]
        for i, (*read, _) in enumerate(pieces):
            for block in read:
                if numbers.setdefault(block.tobytes(), len(blocks)) == len(blocks):
                    blocks.append(block)
            members.setdefault(tuple(numbers[block.tobytes()] for block in read), []).append(i)
        lists: list[BlockList] = []
        owners = [0] * len(texts)
        paths: list[Ints] = [np.empty(0, np.int64)] * len(texts)
        begins = list(accumulate(map(len, blocks), initial=0))
        size = begins[-1]
        for chosen, own in members.items():
            tail = TokenTree.build([pieces[i][-1] for i in own])
            ends = np.cumsum([0, *(len(blocks[b]) for b in chosen)])
            lead = [np.arange(begins[b], begins[b + 1]) for b in chosen]
            for i, path in zip(own, tail.paths, strict=True):
                paths[i], owners[i] = np.concatenate([*lead, size + path]), len(lists)
            lists.append(BlockList(chosen, ends[:-1], int(ends[-1]), tail))
            size += len(tail)
        tokens = [*blocks, *(each.tail.tokens for each in lists)]
        positions = [*(np.arange(len(b)) for b in blocks), *(e.length + e.tail.positions for e in lists)]
        return cls(
            np.concatenate(tokens),
            np.concatenate(positions),
            tuple(blocks),
            tuple(lists),
            tuple(paths),
            tuple(owners),
            tuple(texts),
        )

    @classmethod
    def pack(cls, rows: Sequence[BlockRow]) -> BlockRow:
        """All texts as one row; what several rows have in common is computed once there, too."""
        return rows[0] if len(rows) == 1 else cls.build([text for row in rows for text in row.texts])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def sizes(self) -> list[int]:
        """How many nodes each block and each tail has."""
        return [*map(len, self.blocks), *(len(each.tail) for each in self.lists)]
