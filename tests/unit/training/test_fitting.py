"""Where a fit is gone on with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer

from ragdro.errors import TrainingError
from ragdro.training.fitting import FitKeeper


def keeper(*, steps: dict[str, int], files: dict[str, list[str]], zero_stage: int | None) -> FitKeeper:
    """Of a run whose selector is fitted under ZeRO of `zero_stage`."""
    run: Any = SimpleNamespace(
        model=lambda role: SimpleNamespace(zero_stage=zero_stage),
        state=SimpleNamespace(steps=steps, files=files),
        store=SimpleNamespace(tensors=lambda state, key: {"0.step": torch.tensor(3.0)}),
        config=SimpleNamespace(parallel=SimpleNamespace(strategy="deepspeed-zero2")),
    )
    return FitKeeper(run, "warm_up", "selector")


def optimiser() -> Optimizer:
    return AdamW([torch.nn.Parameter(torch.zeros(2))])


def test_zero_does_not_go_on_in_the_middle_of_a_fit_that_another_strategy_saved() -> None:
    moments = {"optimiser": ["000003-optimiser.safetensors", ""]}
    with pytest.raises(TrainingError, match="'warm_up: selector' after 3 updates; resume with ddp or fsdp2"):
        keeper(steps={"selector": 3}, files=moments, zero_stage=2).begin(optimiser())
    assert keeper(steps={"selector": 3}, files=moments, zero_stage=None).begin(optimiser()) == 3


def test_under_zero_a_fit_is_done_or_begins() -> None:
    assert keeper(steps={"selector": 3}, files={}, zero_stage=2).begin(optimiser()) == 3
    moments = {"optimiser": ["000003-optimiser.safetensors", ""]}
    assert keeper(steps={"generator": 3}, files=moments, zero_stage=2).begin(optimiser()) == 0
