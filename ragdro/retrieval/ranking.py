"""Cutting a score array to its best entries, in one fixed order whatever the ties."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64


def top_rows(scores: Float32[np.ndarray, " passages"], count: int) -> Int64[np.ndarray, " choices"]:
    """The rows of the `count` largest scores, largest first; equal scores in row order.

    `count` is at most the number of scores. Takes O(passages) time.
    """
    if count == len(scores):
        chosen = np.arange(len(scores))
    else:
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > threshold)
        tied = np.flatnonzero(scores == threshold)[: count - len(above)]
        chosen = np.concatenate([above, tied])
    return chosen[np.lexsort((chosen, -scores[chosen]))].astype(np.int64)
