"""Cutting a score array to its best entries, in one fixed order whatever the ties."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64, Integer


def top_rows(
    scores: Float32[np.ndarray, " passages"],
    count: int,
    rows: Integer[np.ndarray, " passages"] | None = None,
) -> Int64[np.ndarray, " choices"]:
    """Where the `count` largest scores stand, largest first; equal scores in the order of their `rows`.

    `rows` are all different; without them, equal scores stand in the array's own order. `count` is at most
    the number of scores. Takes O(passages) time.
    """
    order = np.arange(len(scores)) if rows is None else rows
    if count == len(scores):
        chosen = np.arange(len(scores))
    else:
        threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > threshold)
        tied = np.flatnonzero(scores == threshold)
        missing = count - len(above)
        if missing < len(tied) and rows is not None:
            tied = tied[np.argpartition(rows[tied], missing)]
        chosen = np.concatenate([above, tied[:missing]])
    return chosen[np.lexsort((order[chosen], -scores[chosen]))].astype(np.int64)
