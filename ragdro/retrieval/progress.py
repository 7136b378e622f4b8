"""One progress bar, on standard error, for everything that retrieval iterates over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, *, total: int | None, shown: bool, done: int = 0
) -> Iterator[Item]:
    """The items, unchanged, with a bar that starts at `done` of `total` (None: not known) when `shown`.

    There is no bar where standard error is no terminal: a log file would get empty lines for it.
    """
    if not shown:
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    with Progress(console=console, transient=True) as progress:
        yield from progress.track(items, total=total, completed=done, description=description)
