"""How far a run is, on standard error: bars in a terminal, now and then a line anywhere else.

In: a name, a total (None: not known) and what is done of it. Out: in a terminal, live bars; in a log file or
a notebook, plain lines without control characters, one when a piece of work ends and one every `SECONDS`
meanwhile.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")
SECONDS = 30.0


class Display(ABC):
    """What both kinds do."""

    @abstractmethod
    def start(self, name: str, total: int | None, done: int = 0) -> None:
        """A piece of work begins, or continues from `done`."""

    @abstractmethod
    def advance(self, name: str, count: int = 1) -> None:
        """`count` more of it are done."""

    @abstractmethod
    def say(self, text: str) -> None:
        """One line that stays."""

    @abstractmethod
    def end(self, name: str) -> None:
        """A piece of work of unknown length is done; it is shown no more."""

    @abstractmethod
    def close(self) -> None:
        """The last thing shown stays, nothing moves any more."""


def display(console: Console | None = None, *, transient: bool = False) -> Display:
    """Bars where standard error is a terminal, lines elsewhere; `transient` bars are gone when they are
    done."""
    console = console or Console(stderr=True)
    if console.is_terminal and not console.is_jupyter:
        return Bars(console, transient=transient)
    return Lines(transient=transient)


def track(
    items: Iterable[Item], description: str, *, total: int | None, shown: bool, done: int = 0
) -> Iterator[Item]:
    """The items, unchanged; while they pass, how far they are is displayed, from `done` of `total` on, if
    `shown`."""
    if not shown:
        yield from items
        return
    progress = display(transient=True)
    progress.start(description, total, done)
    try:
        for item in items:
            yield item
            progress.advance(description)
    finally:
        progress.close()


class Bars(Display):
    """Live bars, a row each; they take the width that there is."""

    def __init__(self, console: Console, *, transient: bool = False) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, *times, console=console, transient=transient)
        self._transient = transient
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def start(self, name: str, total: int | None, done: int = 0) -> None:
        self._tasks[name] = self._progress.add_task(name, total=total, completed=done)

    def advance(self, name: str, count: int = 1) -> None:
        task = self._tasks[name]
        self._progress.advance(task, count)
        shown = next(one for one in self._progress.tasks if one.id == task)
        if self._transient and shown.finished:
            self.end(name)

    def end(self, name: str) -> None:
        self._progress.remove_task(self._tasks.pop(name))

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


class Lines(Display):
    """`name: done of total` on standard error; what is `transient` says nothing when it ends."""

    def __init__(self, *, transient: bool = False) -> None:
        self._transient = transient
        self._state: dict[str, tuple[int, int, int | None, float]] = {}
        self._last = time.monotonic()

    def start(self, name: str, total: int | None, done: int = 0) -> None:
        self._state[name] = (done, done, total, time.monotonic())

    def advance(self, name: str, count: int = 1) -> None:
        begun, done, total, since = self._state[name]
        done += count
        self._state[name] = (begun, done, total, since)
        now = time.monotonic()
        if total is not None and done >= total:
            if not self._transient:
                self.say(f"{name}: {done} of {total}")
        elif now - self._last >= SECONDS and total is None:
            self.say(f"{name}: {done}")
        elif now - self._last >= SECONDS and total is not None:
            left = f", about {duration((now - since) / (done - begun) * (total - done))} left"
            self.say(f"{name}: {done} of {total}{left if done - begun > 1 else ''}")

    def end(self, name: str) -> None:
        del self._state[name]

    def say(self, text: str) -> None:
        self._last = time.monotonic()
        print(f"ragdro: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        return None


class Silent(Display):
    """What the processes have that print nothing."""

    def start(self, name: str, total: int | None, done: int = 0) -> None:
        return None

    def advance(self, name: str, count: int = 1) -> None:
        return None

    def say(self, text: str) -> None:
        return None

    def end(self, name: str) -> None:
        return None

    def close(self) -> None:
        return None


def duration(seconds: float) -> str:
    """A length of time as a person says it: '40 s', '12 min', '3 h 05 min'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
