"""A model computed in float32 for a moment, to tell a wrong computation from rounding.

In: a `LanguageModel` of any dtype. Out: a context in which autocast is off and weights of 16 bits are float32
while the layer that holds them computes, one layer at a time, so that it takes little memory. The weights
themselves come back untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from ragdro.lm.model import LanguageModel


@contextmanager
def exactly(model: LanguageModel) -> Iterator[None]:
    """`model` computes in float32 within (in float64, if that is its dtype)."""
    with ExitStack() as undo:
        undo.callback(setattr, model, "autocast", model.autocast)
        undo.callback(setattr, model, "exact", False)
        model.autocast, model.exact = None, True
        for module, recurse in _units(model):
            unit = _Upcast(module, recurse)
            undo.callback(module.register_forward_pre_hook(unit.before).remove)
            undo.callback(module.register_forward_hook(unit.behind, always_call=True).remove)
        for module in model.hf.modules():
            if isinstance(getattr(module, "compute_dtype", None), torch.dtype):  # 4-bit weights unpack to it
                undo.callback(setattr, module, "compute_dtype", module.compute_dtype)
                module.compute_dtype = torch.float32  # type: ignore[assignment]
        yield


def _units(model: LanguageModel) -> list[tuple[Module, bool]]:
    """The modules to convert: each decoder layer with all that is in it, and what holds weights outside."""
    kinds = set(model.hf._no_split_modules or ())
    layers = [m for m in model.hf.modules() if type(m).__name__ in kinds]
    inside = {m for layer in layers for m in layer.modules()}
    outside = [m for m in model.hf.modules() if m not in inside and _half(m, recurse=False)]
    return [(m, True) for m in layers if _half(m, recurse=True)] + [(m, False) for m in outside]


def _half(module: Module, *, recurse: bool) -> list[Parameter]:
    return [p for p in module.parameters(recurse) if p.dtype in (torch.bfloat16, torch.float16)]


class _Upcast:
    """The weights of one module in float32 from its forward pass's beginning to its end."""

    def __init__(self, module: Module, recurse: bool) -> None:
        self._module, self._recurse = module, recurse
        self._originals: list[tuple[Parameter, Tensor]] = []

    def before(self, *_: Any) -> None:
        """See `register_forward_pre_hook`."""
        for parameter in _half(self._module, recurse=self._recurse):
            self._originals.append((parameter, parameter.data))
            parameter.data = parameter.data.float()

    def behind(self, *_: Any) -> None:
        """See `register_forward_hook`."""
        for parameter, original in self._originals:
            parameter.data = original
        self._originals.clear()
