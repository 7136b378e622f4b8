"""What the next step needs is made while this one computes.

In: items and what is to be made of each. Out: each item with that, in order. One thread makes it, one item
ahead: tokenising and tries take the processor while a step keeps the device busy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ragdro.profiling import phase

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def prefetched(items: Sequence[_Item], make: Callable[[_Item], _Made]) -> Generator[tuple[_Item, _Made]]:
    """Each item with what `make` gives; what it raises is raised when the item's turn has come. To be closed
    where it is left early."""
    with ThreadPoolExecutor(1, "prefetch") as pool:
        coming = pool.submit(make, items[0]) if items else None
        for place, item in enumerate(items):
            assert coming is not None
            with phase("tokenise"):  # what is still to be waited for
                made = coming.result()
            coming = pool.submit(make, items[place + 1]) if place + 1 < len(items) else None
            yield item, made
