"""Where the time of a run goes: seconds, tokens and model FLOPs of each phase.

In: functions marked `@phase("decode")`, forward passes that `count` what they compute, and a block
`with profiled(...) as profile`. Out: a `Profile`. Outside of such a block a phase costs one look at a
context variable and nothing is counted.

A phase's seconds are its own: what a phase inside it takes is that one's, unless the outer one is `whole`.
Model FLOPs are those the result needs, 2 a weight and token and 4 a pair of tokens, layer and channel of
attention, three times that with gradients; what is computed again or masked away is not counted, so that
their rate against the machine's peak is the model FLOP/s utilisation.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

_active: ContextVar[Profile | None] = ContextVar("profile", default=None)

OTHER = "other"


class Profile:
    """`seconds`, `tokens` and `flops` by phase; `peak` is the machine's measured FLOP/s.

    `synchronise` is called at each border of a phase, for devices that run behind.
    """

    def __init__(
        self,
        peak: float,
        synchronise: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.peak = peak
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tokens: defaultdict[str, int] = defaultdict(int)
        self.flops: defaultdict[str, float] = defaultdict(float)
        self.fallbacks = 0
        """Sequences and branches computed separately because the shared way was found unequal."""
        self._synchronise = synchronise
        self._clock = clock
        self._stack: list[tuple[str, bool]] = [(OTHER, False)]
        self._since = clock()

    @property
    def phase(self) -> str:
        """What time passes in at the moment."""
        return self._stack[-1][0]

    def enter(self, name: str, whole: bool) -> None:
        """A phase begins."""
        self.settle()
        outer, outer_whole = self._stack[-1]
        self._stack.append((outer, True) if outer_whole else (name, whole))

    def leave(self) -> None:
        """The phase entered last ends."""
        self.settle()
        self._stack.pop()

    def count(self, tokens: int, flops: float) -> None:
        """A forward pass over `tokens` tokens that takes `flops`, in the phase of the moment."""
        self.tokens[self._stack[-1][0]] += tokens
        self.flops[self._stack[-1][0]] += flops

    def settle(self) -> None:
        """Give the time since the last border to the phase of the moment."""
        self._synchronise()
        now = self._clock()
        self.seconds[self._stack[-1][0]] += now - self._since
        self._since = now

    def summary(self) -> dict[str, Any]:
        """What `profile.json` holds: each phase's and the whole's seconds and rates."""
        self.settle()
        names = sorted(self.seconds, key=lambda name: (name == OTHER, -self.seconds[name]))
        total = sum(self.seconds.values())
        phases = {
            name: self._row(self.seconds[name], self.tokens[name], self.flops[name], total) for name in names
        }
        everything = self._row(total, sum(self.tokens.values()), sum(self.flops.values()), total)
        return {
            "peak_flops_per_second": self.peak,
            "fallbacks": self.fallbacks,
            "phases": phases,
            "total": everything,
        }

    def _row(self, seconds: float, tokens: int, flops: float, total: float) -> dict[str, Any]:
        return {
            "seconds": seconds,
            "fraction": seconds / total,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds if tokens else None,
            "flops_per_second": flops / seconds if tokens else None,
            "utilisation": flops / seconds / self.peak if tokens else None,
        }


class phase(ContextDecorator):  # noqa: N801  (used like a function)
    """Marks a function or a block as a phase; `whole`: phases inside it count as it."""

    def __init__(self, name: str, *, whole: bool = False) -> None:
        self.name = name
        self.whole = whole

    def __enter__(self) -> None:
        profile = _active.get()
        if profile is not None:
            profile.enter(self.name, self.whole)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        profile = _active.get()
        if profile is not None:
            profile.leave()


def active_profile() -> Profile | None:
    """The profile of the block we are in, None outside of any."""
    return _active.get()


@contextmanager
def profiled(profile: Profile) -> Iterator[Profile]:
    """Everything in this block is measured by `profile`."""
    token = _active.set(profile)
    try:
        yield profile
    finally:
        profile.settle()
        _active.reset(token)
