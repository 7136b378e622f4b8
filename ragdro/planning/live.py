"""Bytes of tensors that are alive at once, with or without data in them.

In: work that computes with torch. Out: the most bytes that its tensors held at one time. Inside
`without_data()` tensors have shapes and no storage, so that a model of any size is "computed" on a laptop:
the operations, what autograd keeps for the backward pass and what is freed when are those of the real run.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, no_type_check

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_Item = TypeVar("_Item")


def without_data() -> FakeTensorMode:
    """A context in which new tensors have no storage; those made outside may take part."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def most_bytes(work: Callable[[], object], held: Iterable[Tensor]) -> int:
    """The most bytes alive during `work`, the tensors `held` before it included."""
    ((most, _),) = most_bytes_of_steps((work() for _ in range(1)), held)
    return most


def most_bytes_of_steps(steps: Iterable[_Item], held: Iterable[Tensor]) -> list[tuple[int, _Item]]:
    """The most bytes alive during each of the `steps`, with what it gave; see `most_bytes`."""
    live = _LiveBytes()
    for tensor in held:
        live.see(tensor)
    measured = []
    with live:
        for item in steps:
            measured.append((live.most, item))
            live.forget_most()
    return measured


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage that an operation returns until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def forget_most(self) -> None:
        """From here on, the most of what is alive from now on."""
        self.most = self._now

    @no_type_check  # called for every tensor of every operation
    def see(self, tensor: Tensor) -> None:
        """Count the tensor's storage, once however many tensors share it."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return

        def freed(_: object) -> None:
            self._now -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, freed)
        self._now += size
        self.most = max(self.most, self._now)

    @no_type_check
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """See `TorchDispatchMode`."""
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return output
