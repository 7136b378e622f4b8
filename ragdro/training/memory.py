"""Out of memory: one line that says where, and which setting makes it fit.

In: a piece of work, the key that says how much of it is computed at once, and that key's value. Out: nothing,
or an `OutOfMemoryError` of our own, whose `overrides` are what to resume with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ragdro.errors import OutOfMemoryError

_SAID = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")
"""What torch's allocators of other devices than CUDA say in a plain RuntimeError."""


@contextmanager
def limited_by(work: str, key: str, tokens: int, otherwise: tuple[str, ...] = ()) -> Iterator[None]:
    """Raises `OutOfMemoryError` where memory does not suffice for `work`, which computes as many `tokens` at
    once as `key` says; `otherwise`: settings that need less as well."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = f"{key}={max(1, tokens // 2)}"
        others = " or ".join((*otherwise, "another device"))
        raise OutOfMemoryError(
            f"{work}: out of memory with {key}={tokens}; smaller it may fit, or with {others}",
            overrides=(smaller,),
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation has failed, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error).lower() for said in _SAID)
