"""Whose turn a model's is where several threads compute with it.

Passes without gradients change nothing of a model, so threads that declare themselves (`beside_others`) run
them at once. What does change it for a moment, a parity check in float32 (`ragdro.lm.parity`), waits until it
is `alone` among them, and they wait for its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_CHANGED = threading.Condition()


class _Own(threading.local):
    beside = False
    alone = False


class _Threads:
    beside = 0
    """How many are beside one another."""
    one_is_alone = False


_OWN, _THREADS = _Own(), _Threads()


@contextmanager
def beside_others() -> Iterator[None]:
    """This thread computes without gradients, as others may within their own."""
    with _CHANGED:
        _CHANGED.wait_for(lambda: not _THREADS.one_is_alone)
        _THREADS.beside += 1
        _OWN.beside = True
    try:
        yield
    finally:
        with _CHANGED:
            _THREADS.beside -= 1
            _OWN.beside = False
            _CHANGED.notify_all()


@contextmanager
def alone() -> Iterator[None]:
    """No thread that is `beside_others` computes within, but this one."""
    if _OWN.alone:
        yield
        return
    with _CHANGED:
        _THREADS.beside -= _OWN.beside  # who waits for its turn is in nobody's way
        _CHANGED.notify_all()
        _CHANGED.wait_for(lambda: not (_THREADS.beside or _THREADS.one_is_alone))
        _THREADS.one_is_alone = _OWN.alone = True
    try:
        yield
    finally:
        with _CHANGED:
            _THREADS.one_is_alone = _OWN.alone = False
            _THREADS.beside += _OWN.beside
            _CHANGED.notify_all()
