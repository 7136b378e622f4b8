"""One process at a time in a run folder.

In: a run folder. Out: a lock that the operating system takes back when its process ends, however it
ends, so that a killed run leaves nothing stale and no clock is asked.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from ragdro.errors import ConfigError

LOCK = ".lock"
_PATIENCE = 2.0
"""Seconds a run waits for the lock: `is_running` holds it for an instant."""


class RunLock:
    """The lock of `folder`, held from the start until `release`. Raises `ConfigError` where it is taken."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        until = time.monotonic() + _PATIENCE
        while not _take(self._descriptor, fcntl.LOCK_EX):
            if time.monotonic() > until:
                os.close(self._descriptor)
                raise ConfigError(f"name: another process is running in {folder}")
            time.sleep(0.05)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


def is_running(folder: Path) -> bool:
    """Whether a process holds the lock of `folder`; writes nothing."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
