"""One progress bar, on standard error, for everything that retrieval iterates over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, *, total: int | None, shown: bool, done: int = 0
) -> Iterator[Item]:
    """The items, unchanged, with a bar that starts at `done` of `total` (None: not known) when `shown`."""
    if not shown:
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(items, total=total, completed=done, description=description)
