"""Texts made of blocks: each block sees itself alone, what follows the blocks sees them all.

In: token sequences that begin with blocks (the passages of a list, say), and where each block ends. Out:
one row of tokens in which every distinct block stands once, whatever lists it is in and wherever in them,
followed by the tails: what stands behind the blocks of a list, as a tree of tokens where several share them.
A block's tokens are at the positions 0, 1, … in the row; a tail's are at those that it has in its list.
Links, the last few tokens of each block but the first, see all that stands before them: they are no part of
the block but of each list's tail, at their places in the list (KVLink, arXiv 2502.16002). Or they are its
first few, computed again: then they are part of both, and the tail sees those of its own (EPIC, arXiv
2410.15332).
Attention turns a block's keys to their place in each list (`ragdro.lm.block_attention`), so a pass over the
row equals one pass for each sequence under the same visibility (Block-Attention, arXiv 2409.15355).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from ragdro.lm.tree import NO_LINKS, Ints, Links, TokenTree


@dataclass(frozen=True, slots=True, eq=False)
class BlockText:
    """`tokens` [length]; `ends` [blocks]: how many tokens there are up to the end of each block; `links`:
    which of its tokens see all that stands before them."""

    tokens: Ints
    ends: Ints
    links: Links = NO_LINKS

    @property
    def pieces(self) -> list[Ints]:
        """The tokens of each block, and of the tail."""
        return [self.tokens[a:b] for a, b in pairwise([0, *self.ends.tolist(), len(self.tokens)])]

    @property
    def parts(self) -> tuple[list[Ints], list[Ints], Ints]:
        """Of each block the tokens that see it alone, and its links; and the tail."""
        *blocks, tail = self.pieces
        counts = [min(len(b), self.links.count if number else 0) for number, b in enumerate(blocks)]
        if self.links.again:
            return blocks, [block[:count] for block, count in zip(blocks, counts, strict=True)], tail
        cuts = [len(block) - count for block, count in zip(blocks, counts, strict=True)]
        own = [block[:cut] for block, cut in zip(blocks, cuts, strict=True)]
        return own, [block[cut:] for block, cut in zip(blocks, cuts, strict=True)], tail


@dataclass(frozen=True, slots=True, eq=False)
class BlockList:
    """Blocks in reading order, by their numbers in the row, and what is read behind them.

    `starts`: the position at which each begins; `at`, `read` [tokens of all blocks]: the position of each,
    and whether the tail sees it (not where it was computed again); `tail`: the links of all blocks in order,
    then what is read behind; `places` [tail]: the position of each node.
    """

    blocks: tuple[int, ...]
    starts: Ints
    at: Ints
    read: NDArray[np.bool_]
    tail: TokenTree
    places: Ints

    @property
    def length(self) -> int:
        """How many tokens all blocks have."""
        return len(self.at)


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
        """Equal blocks are one, and so are the tails' shared beginnings behind equal lists of blocks. All
        texts have links of one kind."""
        (again,) = {text.links.again for text in texts}
        numbers: dict[bytes, int] = {}
        blocks: list[Ints] = []
        members: dict[tuple[tuple[int, int], ...], list[int]] = {}
        parts = [text.parts for text in texts]
        for i, (own, links, _) in enumerate(parts):
            for block in own:
                if numbers.setdefault(block.tobytes(), len(blocks)) == len(blocks):
                    blocks.append(block)
            chosen = (numbers[block.tobytes()] for block in own)
            members.setdefault(tuple(zip(chosen, map(len, links), strict=True)), []).append(i)
        lists: list[BlockList] = []
        owners = [0] * len(texts)
        paths: list[Ints] = [np.empty(0, np.int64)] * len(texts)
        begins = list(accumulate(map(len, blocks), initial=0))
        size = begins[-1]
        for read, own_texts in members.items():
            each = _block_list(read, blocks, [parts[i] for i in own_texts], again)
            for i, path in zip(own_texts, each.tail.paths, strict=True):
                paths[i], owners[i] = _path(read, begins, size + path, again), len(lists)
            lists.append(each)
            size += len(each.tail)
        tokens = [*blocks, *(each.tail.tokens for each in lists)]
        positions = [*(np.arange(len(b)) for b in blocks), *(each.places for each in lists)]
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


def _block_list(
    read: tuple[tuple[int, int], ...],
    blocks: Sequence[Ints],
    parts: Sequence[tuple[list[Ints], list[Ints], Ints]],
    again: bool,
) -> BlockList:
    """The list of these blocks, each with so many links, and the tails of its texts."""
    tail = TokenTree.build([np.concatenate([*links, behind]) for _, links, behind in parts])
    sizes = [len(blocks[number]) for number, _ in read]
    counts = [links for _, links in read]
    further = [0] * len(counts) if again else counts
    ends = np.cumsum([0, *(size + links for size, links in zip(sizes, further, strict=True))])
    starts, length = ends[:-1], int(ends[-1])
    at = [start + np.arange(size) for start, size in zip(starts, sizes, strict=True)]
    begins = starts if again else starts + sizes
    linked = [begin + np.arange(links) for begin, links in zip(begins, counts, strict=True)]
    own = [np.arange(size) >= (links if again else 0) for size, links in zip(sizes, counts, strict=True)]
    behind = length + np.arange(max(len(tokens) for *_, tokens in parts))
    places = np.concatenate([*linked, behind])[tail.positions]
    numbers = tuple(number for number, _ in read)
    return BlockList(numbers, starts, np.concatenate(at), np.concatenate(own), tail, places)


def _path(read: tuple[tuple[int, int], ...], begins: Sequence[int], tail: Ints, again: bool) -> Ints:
    """The nodes of a text in its order, whose links and tail are the nodes `tail`."""
    path, used = [], 0
    for number, links in read:
        own, linked = np.arange(begins[number], begins[number + 1]), tail[used : used + links]
        path += [linked, own[links:]] if again else [own, linked]
        used += links
    return np.concatenate([*path, tail[used:]])
