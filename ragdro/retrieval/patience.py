"""Trying again: what a service that is away, slow or restarting is asked with.

In: a piece of work that may be done again. Out: its result, after passing faults were waited out; or one
error that names the place and the last cause.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ragdro.config.http import Patience
from ragdro.errors import RetrievalError
from ragdro.units import counted

LONGEST_WAIT = 60.0
"""Seconds; no wait between two tries is longer."""

Result = TypeVar("Result")


class UnavailableError(Exception):
    """A fault that may pass: refused, cut off, too slow, overloaded. Its text is the cause."""


def patiently(work: Callable[[], Result], patience: Patience, place: str) -> Result:
    """What `work` returns, tried again after `UnavailableError`, with waits that double.

    RetrievalError after `retries` further tries; every other error passes through.
    """
    cause = UnavailableError()
    for attempt in range(patience.retries + 1):
        if attempt:
            time.sleep(min(patience.backoff_seconds * 2 ** (attempt - 1), LONGEST_WAIT))
        try:
            return work()
        except UnavailableError as error:
            cause = error
    tries = patience.retries + 1
    raise RetrievalError(f"{place}: gave up after {counted(tries, 'tries')}: {cause}")
