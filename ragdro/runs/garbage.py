"""The garbage collector leaves alone what a run holds until its end.

A run of the paper's size has some million small objects: questions, passages, tuples of them. A full
collection goes over each of them and finds nothing, and reading them in makes dozens.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection while what stays is made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def settled() -> Iterator[None]:
    """What there is now is left out of all collections in this block."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
