"""Some devices have no float64 (MPS): what is computed in it is brought to the processor first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ragdro.algorithms import Dro
from ragdro.config import Evaluation
from ragdro.lm.engines.parity import difference
from ragdro.lm.sampling import write_freely
from ragdro.training import evaluate
from tests.worlds import pocket_rag, pocket_tasks


class NoFloat64(TorchFunctionMode):
    """Only what `Tensor.cpu` returned can become float64; `converted` counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.converted = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [*args, *(kwargs or {}).values()]
        to_float64 = func is Tensor.double or any(value is torch.float64 for value in given)
        if to_float64 and given and isinstance(given[0], Tensor):
            assert hasattr(given[0], "on_processor"), "float64 on the device"
            self.converted += 1
        result = func(*args, **(kwargs or {}))
        if func is Tensor.cpu:
            result.on_processor = True
        return result


def sample(kind: str) -> None:
    """Lists, greedy and drawn, and their scores."""
    evaluate.draw(pocket_rag(kind=kind), Dro(), Evaluation(samples=2), 0, pocket_tasks(2, 5))


def write() -> None:
    model = pocket_rag().generator.model
    numbers = [np.full((2, 3), 0.5)]
    write_freely(model, [np.arange(3)], numbers, 3, temperature=1.0, max_tokens=9999)


def compare() -> None:
    difference(lambda asked: [[0.0] * len(one.allowed) for one in asked], pocket_rag().selector.model)


_WORK: dict[str, Callable[[], None]] = {
    "a list selector": partial(sample, "list"),
    "a pointer": partial(sample, "pointer"),
    "free text": write,
    "an engine's check": compare,
}


@pytest.mark.parametrize("work", _WORK)
def test_the_device_is_asked_for_no_float64(work: str) -> None:
    with NoFloat64() as device:
        _WORK[work]()
    assert device.converted
