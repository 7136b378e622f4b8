"""MUVERA's fixed-dimensional encodings: one vector for a set of token vectors, whose inner product stands for
MaxSim (Dhulipala, Hadian, Jayaram, Lee & Mirrokni, 2024).

A repetition cuts space into 2^k regions by k random hyperplanes through the origin, so that near vectors tend
to lie in one region. For each region

    question: the sum of its token vectors there        passage: their mean there

is projected to few numbers by random signs; an empty region of a passage has a token whose region differs in
the fewest hyperplanes (the first of the lowest such region). All regions of all repetitions are one vector.
In each region a question's token meets the mean of the passage's tokens near it, in place of the nearest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from ragdro.errors import RetrievalError

_TOKENS = 1 << 13
"""Tokens that are encoded at once."""


class FixedDimensional:
    """Encodings of `width` token numbers; the same hyperplanes and signs for questions and passages."""

    def __init__(
        self,
        planes: Float32[np.ndarray, "repetitions hyperplanes width"],
        signs: Float32[np.ndarray, "repetitions width projection"],
    ) -> None:
        self.planes, self.signs = planes, signs
        self._repetitions, bits, _ = planes.shape
        self._regions, self._projection = 2**bits, signs.shape[2]
        ways = np.arange(self._regions)
        self._differ = np.bitwise_count(ways[:, None] ^ ways[None, :])

    @classmethod
    def drawn(
        cls, width: int, repetitions: int, hyperplanes: int, projection: int, rng: np.random.Generator
    ) -> FixedDimensional:
        """Random hyperplanes and signs. RetrievalError for a projection to more than `width` numbers."""
        if projection > width:
            raise RetrievalError(
                f"retriever.first_stage.projection: {projection} is more than a token's {width} numbers"
            )
        planes = rng.standard_normal((repetitions, hyperplanes, width))
        signs = rng.choice([-1.0, 1.0], (repetitions, width, projection)) / np.sqrt(projection)
        return cls(planes.astype(np.float32), signs.astype(np.float32))

    def of_questions(
        self, tokens: Sequence[Float32[np.ndarray, "_ width"]]
    ) -> Float32[np.ndarray, "questions encoding"]:
        """The encoding of each question's token vectors."""
        return np.stack([self._sums([one])[0].reshape(-1) for one in tokens])

    def of_passages(
        self, tokens: Sequence[Float32[np.ndarray, "_ width"]]
    ) -> Float32[np.ndarray, "passages encoding"]:
        """The encoding of each passage's token vectors, of which there is at least one."""
        blocks, start, length = [], 0, 0
        for stop, one in enumerate(tokens, start=1):
            length += len(one)
            if length >= _TOKENS or stop == len(tokens):
                blocks.append(self._filled(tokens[start:stop]))
                start, length = stop, 0
        return np.concatenate(blocks)

    def _filled(self, tokens: Sequence[Float32[np.ndarray, "_ width"]]) -> Float32[np.ndarray, "_ encoding"]:
        sums, counts, first = self._sums(tokens)
        occupied: Bool[np.ndarray, "sets regions"] = counts.reshape(-1, self._regions) > 0
        far = np.where(occupied[:, None, :], self._differ[None], np.uint8(255))
        nearest = far.argmin(axis=2) + self._regions * np.arange(len(occupied))[:, None]
        means = sums / np.maximum(counts, 1)[:, None]
        out = np.where(occupied.reshape(-1)[:, None], means, first[nearest.reshape(-1)])
        encodings: Float32[np.ndarray, "_ encoding"] = out.astype(np.float32).reshape(len(tokens), -1)
        return encodings

    def _sums(
        self, tokens: Sequence[Float32[np.ndarray, "_ width"]]
    ) -> tuple[
        Float32[np.ndarray, "places projection"],
        Int64[np.ndarray, " places"],
        Float32[np.ndarray, "places projection"],
    ]:
        """Of each place (set, repetition, region) the sum of its projected tokens, their number, and the
        first of them; zeros where there is none."""
        flat = np.concatenate(tokens).astype(np.float32)
        set_of = np.repeat(np.arange(len(tokens)), [len(one) for one in tokens])
        above = np.einsum("tw,rkw->trk", flat, self.planes, optimize=True) > 0
        region = above @ (1 << np.arange(above.shape[2]))
        projected = np.einsum("tw,rwp->trp", flat, self.signs, optimize=True).reshape(-1, self._projection)
        repetition = set_of[:, None] * self._repetitions + np.arange(self._repetitions)
        place = (repetition * self._regions + region).reshape(-1)
        order = np.argsort(place, kind="stable")
        starts = np.flatnonzero(np.diff(place[order], prepend=-1))
        there, places = place[order][starts], len(tokens) * self._repetitions * self._regions
        sums = np.zeros((places, self._projection), dtype=np.float32)
        first, counts = np.zeros_like(sums), np.zeros(places, dtype=np.int64)
        sums[there] = np.add.reduceat(projected[order], starts, axis=0)
        first[there] = projected[order[starts]]
        counts[there] = np.diff(starts, append=len(place))
        return sums, counts, first
