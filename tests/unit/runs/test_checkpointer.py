"""Where a fit resumes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.optim import AdamW, Optimizer

from ragdro.errors import TrainingError
from ragdro.runs.checkpointer import RunCheckpointer
from ragdro.runs.state import State


def checkpointer(
    *, steps: dict[str, int], files: dict[str, dict[str, str]], zero_stage: int | None
) -> RunCheckpointer:
    """Of a run whose selector is fitted under ZeRO of `zero_stage`."""
    made: Any = RunCheckpointer.__new__(RunCheckpointer)
    made.state = State(steps=steps, tensors=files)
    made._training = SimpleNamespace(model=lambda role: SimpleNamespace(zero_stage=zero_stage))
    made._store = SimpleNamespace(
        kinds=lambda state, key: {"0.step": (torch.Size(()), torch.float32)},
        read_into=lambda state, key, tensors: tensors["0.step"].fill_(3),
    )
    made._folder = SimpleNamespace(
        config=SimpleNamespace(parallel=SimpleNamespace(strategy="deepspeed-zero2"))
    )
    return cast(RunCheckpointer, made)


def resumed(zero_stage: int | None, steps: dict[str, int], files: dict[str, dict[str, str]]) -> int:
    made = checkpointer(steps=steps, files=files, zero_stage=zero_stage)
    return made.resume_fit("warm_up", "selector", optimiser())


def optimiser() -> Optimizer:
    return AdamW([torch.nn.Parameter(torch.zeros(2))])


def test_zero_does_not_resume_in_the_middle_of_a_fit_that_another_strategy_saved() -> None:
    moments = {
        "optimiser-selector": {"state/000003-selector/shard-00001-model-00001-of-00001.safetensors": ""}
    }
    with pytest.raises(TrainingError, match="'warm_up: selector' after 3 updates; resume with ddp or fsdp2"):
        resumed(2, {"selector": 3}, moments)
    assert resumed(None, {"selector": 3}, moments) == 3


def test_under_zero_a_fit_is_done_or_begins() -> None:
    assert resumed(2, {"selector": 3}, {}) == 3
    moments = {
        "optimiser-selector": {"state/000003-selector/shard-00001-model-00001-of-00001.safetensors": ""}
    }
    assert resumed(2, {"generator": 3}, moments) == 0


def test_another_roles_moments_are_left_alone() -> None:
    """The selector's fit is done, the generator's, of another size, stood in its middle."""
    moments = {
        "optimiser-generator": {"state/000004-generator/shard-00001-model-00001-of-00001.safetensors": ""}
    }
    made = checkpointer(steps={"selector": 3, "generator": 1}, files=moments, zero_stage=None)
    unused = optimiser()
    assert made.resume_fit("warm_up", "selector", unused) == 3
    assert not unused.state
