"""SIGTERM, which schedulers send before they take a machine away: save, then leave with a code of its own.

In: nothing. Out: `SystemExit(PREEMPTED)` in the main thread, at once or, between `hold` and `settle`, at
that `settle`: where work would be lost that can still be saved.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

PREEMPTED = 75
"""The exit code (EX_TEMPFAIL of sysexits.h): nothing is wrong, start again with `--resume`."""


class Preemption:
    """Listens for SIGTERM while it is entered (in the main thread; elsewhere Python allows no handler)."""

    def __init__(self) -> None:
        self.asked = False
        self._held = False
        self._old: Any = None

    def __enter__(self) -> Preemption:
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGTERM, self._receive)
            outer = getattr(self._old, "__self__", None)
            self.asked = isinstance(outer, Preemption) and outer.asked
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._old is not None:
            signal.signal(signal.SIGTERM, self._old)

    def hold(self) -> None:
        """There is work that is not saved: from here on a signal is only noted, in `asked`."""
        self._held = True

    def settle(self) -> None:
        """All is saved: leave if it was asked for, and from here on at once."""
        self._held = False
        self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Leave where nothing is held and a signal has come: what it raised is lost where Python ran a
        finaliser just then."""
        if self.asked and not self._held:
            raise SystemExit(PREEMPTED)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.leave_if_asked()
