"""Where a fit resumes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch.optim import AdamW, Optimizer

from ragdro.parallel.zero import Zero
from ragdro.runs.checkpointer import RunCheckpointer
from ragdro.runs.saved_states import State

MOMENTS = {"optimiser-selector": {"state/000003-selector/shard-00001-model-00001-of-00001.safetensors": ""}}


def checkpointer(*, steps: dict[str, int], files: dict[str, dict[str, str]]) -> RunCheckpointer:
    made: Any = RunCheckpointer.__new__(RunCheckpointer)
    made.state = State(steps=steps, tensors=files)
    saved = SimpleNamespace(
        kinds={"0.step": (torch.Size(()), torch.float32)},
        read_into=lambda tensors: tensors["0.step"].fill_(3),
    )
    made._store = SimpleNamespace(saved=lambda state, key: saved)
    return cast(RunCheckpointer, made)


def optimiser() -> Optimizer:
    return AdamW([torch.nn.Parameter(torch.zeros(2))])


@pytest.mark.parametrize(
    ("steps", "files", "expected"),
    [({"selector": 3}, MOMENTS, 3), ({"selector": 3}, {}, 3), ({"generator": 3}, MOMENTS, 0)],
    ids=["in its middle", "done", "begins"],
)
def test_a_fit_resumes_where_it_stood(
    steps: dict[str, int], files: dict[str, dict[str, str]], expected: int
) -> None:
    resumed = optimiser()
    assert checkpointer(steps=steps, files=files).resume_fit("warm_up", "selector", resumed) == expected
    assert [float(moments["step"]) for moments in resumed.state.values()] == [3.0] * bool(expected and files)


def test_zero_takes_up_the_saved_moments_itself() -> None:
    taken: list[dict[str, Any]] = []
    zero = Zero.__new__(Zero)
    zero.restore = lambda saved, read: taken.append(saved)  # type: ignore[method-assign]
    assert (
        checkpointer(steps={"selector": 3}, files=MOMENTS).resume_fit("warm_up", "selector", zero) == 3
        and len(taken) == 1
    )


def test_another_roles_moments_are_left_alone() -> None:
    """The selector's fit is done, the generator's, of another size, stood in its middle."""
    moments = {
        "optimiser-generator": {"state/000004-generator/shard-00001-model-00001-of-00001.safetensors": ""}
    }
    made = checkpointer(steps={"selector": 3, "generator": 1}, files=moments)
    unused = optimiser()
    assert made.resume_fit("warm_up", "selector", unused) == 3
    assert not unused.state
