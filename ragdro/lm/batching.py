"""Batches by a token budget: what is computed together is of like length, so little of it is padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def batches_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of rows that are padded to the longest: `rows * longest row <= max_tokens`.

    Longest first, so that a run which does not fit in memory fails at its first batch. A single row longer
    than the budget gets a batch of its own. Deterministic: ties keep their order.
    """
    return _grouped(lengths, lambda batch: len(batch) * max(batch) <= max_tokens)


def packs_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of what is packed without padding: `sum of lengths <= max_tokens`, otherwise the same."""
    return _grouped(lengths, lambda batch: sum(batch) <= max_tokens)


def _grouped(lengths: Sequence[int], fits: Callable[[list[int]], bool]) -> list[list[int]]:
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and fits([lengths[j] for j in (*batches[-1], i)]):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
