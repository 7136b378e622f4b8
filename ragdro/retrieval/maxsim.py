"""Exact MaxSim of questions against token vectors on disk.

out[q, d] = sum over i of max over j of queries[q][i] . vectors[d][j]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Float32, Int64, Integer

CHUNK_TOKENS, QUERY_TOKENS = 1 << 16, 64
"""Tokens of passages and of questions scored at once: a product takes 4 bytes for each pair of them."""


class TokenShard:
    """The token vectors of consecutive passages, memory-mapped, one passage after the other."""

    def __init__(self, folder: Path, start: int) -> None:
        self.start = start
        self.vectors: Float16[np.ndarray, "tokens width"] = np.load(
            self.vectors_path(folder, start), mmap_mode="r"
        )
        self.lengths: Int64[np.ndarray, " passages"] = np.load(self.lengths_path(folder, start))

    @staticmethod
    def starts(folder: Path) -> list[int]:
        """The first passages of the folder's finished shards, in order."""
        return sorted(int(path.name.split(".")[0]) for path in folder.glob("*.lengths.npy"))

    @staticmethod
    def vectors_path(folder: Path, start: int) -> Path:
        return folder / f"{start:012d}.vectors.npy"

    @staticmethod
    def lengths_path(folder: Path, start: int) -> Path:
        """Written after the vectors: where it exists, the shard is finished."""
        return folder / f"{start:012d}.lengths.npy"

    def chunks(self) -> Iterator[tuple[slice, slice]]:
        """Ranges (of passages, of their tokens) of at most CHUNK_TOKENS tokens, or of one passage."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        first = 0
        while first < len(self.lengths):
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + CHUNK_TOKENS, side="right")) - 1)
            yield slice(first, last), slice(int(ends[first]), int(ends[last]))
            first = last


def max_sim_of(
    query: Float32[np.ndarray, "query_tokens width"],
    vectors: Float32[np.ndarray, "tokens width"],
    lengths: Integer[np.ndarray, " passages"],
) -> Float32[np.ndarray, " passages"]:
    """The score of each passage for one question; `vectors` are the passages' tokens, one passage after the
    other, of which each has `lengths` (at least 1)."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    scores: Float32[np.ndarray, " passages"] = np.maximum.reduceat(vectors @ query.T, starts, axis=0).sum(1)
    return scores


def max_sim(
    queries: Sequence[Float32[np.ndarray, "_ width"]],
    shard: TokenShard,
    device: torch.device | None = None,
) -> Float32[np.ndarray, "questions passages"]:
    """The score of each passage of the shard for each question, computed in float32 on the device."""
    stacked = torch.from_numpy(np.concatenate(queries)).to(device)
    question_of = torch.from_numpy(np.repeat(np.arange(len(queries)), [len(query) for query in queries])).to(
        device
    )
    out = np.empty((len(queries), len(shard.lengths)), dtype=np.float32)
    for passages, tokens in shard.chunks():
        vectors = torch.from_numpy(np.array(shard.vectors[tokens])).to(device).float()
        lengths = torch.from_numpy(shard.lengths[passages]).to(device)
        scores = torch.zeros(len(queries), len(lengths), device=device)
        for first in range(0, len(stacked), QUERY_TOKENS):
            part = slice(first, first + QUERY_TOKENS)
            best = torch.segment_reduce(vectors @ stacked[part].T, "max", lengths=lengths, axis=0)
            scores.index_add_(0, question_of[part], best.T.contiguous())
        out[:, passages] = scores.cpu().numpy()
    return out
