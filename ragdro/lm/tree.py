"""Sequences that share beginnings, as one tree of tokens: each shared token is computed once.

In: the token sequences of one question (the selector's prompt with m continuations, or the
generator's prompts for m permutations). Out: flat arrays (token, position, which node sees which) from
which `ragdro.lm.scoring` makes one forward pass that equals the separate passes exactly, because a node
attends to its ancestors and itself and sits at its depth's position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """A token sequence and which of its tokens count towards its log-probability.

    `tokens` [length]; `targets` [scored]: positions t >= 1 whose token is scored given those before it;
    `allowed`: None (the whole vocabulary competes) or, for each target, the ids that compete, the
    target's own among them.
    """

    tokens: Ints
    targets: Ints
    allowed: tuple[Ints, ...] | None = None

    def __post_init__(self) -> None:
        assert self.targets.size and self.targets.min() >= 1 and self.targets.max() < len(self.tokens)
        assert self.allowed is None or len(self.allowed) == len(self.targets)

    @property
    def inputs(self) -> Ints:
        """The tokens the model must read: those before the last target."""
        return self.tokens[: int(self.targets.max())]

    def whole(self) -> ScoredSequence:
        """The same tokens with every one but the first scored over the whole vocabulary."""
        return ScoredSequence(self.tokens, np.arange(1, len(self.tokens)))


@dataclass(frozen=True, slots=True, eq=False)
class TokenTree:
    """A trie of sequences in depth-first order of the sorted sequences.

    `tokens`, `positions` [nodes]; `paths`: for each sequence, in the order given, the nodes it runs
    through; `trunk`: how many leading nodes every sequence shares.
    """

    tokens: Ints
    positions: Ints
    paths: tuple[Ints, ...]
    trunk: int

    @classmethod
    def build(cls, sequences: Sequence[Ints]) -> TokenTree:
        """The trie of `sequences`; equal ones share one path."""
        order = sorted(range(len(sequences)), key=lambda i: sequences[i].tolist())
        paths: list[Ints] = [np.empty(0, np.int64)] * len(sequences)
        tokens: list[Ints] = []
        positions: list[Ints] = []
        size, previous, trunk = 0, -1, len(sequences[order[0]])
        for i in order:
            shared = 0 if previous < 0 else _common_prefix(sequences[previous], sequences[i])
            trunk = trunk if previous < 0 else min(trunk, shared)
            fresh = len(sequences[i]) - shared
            head = paths[previous][:shared] if previous >= 0 else paths[i]
            paths[i] = np.concatenate([head, np.arange(size, size + fresh)])
            tokens.append(sequences[i][shared:])
            positions.append(np.arange(shared, shared + fresh))
            size, previous = size + fresh, i
        return cls(np.concatenate(tokens), np.concatenate(positions), tuple(paths), trunk)

    def __len__(self) -> int:
        return len(self.tokens)

    def visible(self) -> NDArray[np.bool_]:
        """[nodes, nodes]: whether the row's node attends to the column's (ancestors and itself)."""
        seen = np.zeros((len(self), len(self)), bool)
        seen[: self.trunk, : self.trunk] = np.tri(self.trunk, dtype=bool)
        seen[self.trunk :, : self.trunk] = True
        for path in self.paths:
            branch = path[self.trunk :]
            seen[np.ix_(branch, branch)] |= np.tri(len(branch), dtype=bool)
        return seen


def _common_prefix(a: Ints, b: Ints) -> int:
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if different.size else length
