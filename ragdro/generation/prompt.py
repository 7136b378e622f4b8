"""A prompt of the generator in tokens, in one piece or in blocks.

In: what a template encodes. Out: its tokens, and the sequence that scores an answer behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragdro.lm.tree import NO_LINKS, Ints, Links, ScoredSequence


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt's tokens and, where it is read in blocks, how many there are up to the end of each, and
    which tokens of a block see all before them (`links`)."""

    tokens: Ints
    blocks: Ints | None
    links: Links = NO_LINKS

    @classmethod
    def of(cls, ids: list[int] | list[list[int]], links: Links = NO_LINKS) -> Prompt:
        """From ids, or those of each block and of what stands behind the blocks."""
        if not ids or isinstance(ids[0], int):
            return cls(np.array(ids, np.int64), None)
        pieces = [np.array(piece, np.int64) for piece in ids]
        ends = np.cumsum([len(piece) for piece in pieces[:-1]], dtype=np.int64)
        return cls(np.concatenate(pieces), ends, links)

    def then(self, answer: Sequence[int]) -> ScoredSequence:
        """The sequence that scores an answer's tokens behind the prompt."""
        tokens = np.concatenate([self.tokens, np.array(answer, np.int64)])
        targets = np.arange(len(self.tokens), len(tokens))
        return ScoredSequence(tokens, targets, blocks=self.blocks, links=self.links)
