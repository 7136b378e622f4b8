"""Batches by a token budget: what is computed together is of like length, so little of it is padding."""

from __future__ import annotations

from collections.abc import Sequence


def batches_by_tokens(lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
    """Indices grouped so that `rows * longest row <= tokens_per_batch`, longest first.

    A single row longer than the budget gets a batch of its own. Longest first, so that a run which does
    not fit in memory fails at its first batch. Deterministic: ties keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens_per_batch:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
