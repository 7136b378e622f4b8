"""A process of two that share out a model is killed while a state is written behind training, or later; the
run goes on in another number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import Tensor

from ragdro.runs.state import State, StateStore
from tests.pipeline.crash import KILLED, Command
from tests.pipeline.faults import die_in_update
from tests.pipeline.processes import assert_equal_runs, start
from tests.pipeline.test_saving import Updates, killed_at_write

SHARDED = "parallel.strategy=fsdp2"


def newest(run: Path) -> State:
    state = StateStore(run).newest(pytest.fail)
    assert state is not None
    return state


def alone_with(folder: Path, name: str, *options: str, **prepare: Any) -> Command:
    return Command(folder, "train", str(folder / "config.yaml"), f"name={name}", *options, **prepare)


def killed_at_part(number: int) -> None:
    """The process ends in the write of its part of a state, half of which is there, when an update is taken
    behind it: the `number`-th part that it writes, from 1."""
    patch = pytest.MonkeyPatch()
    updates, done = Updates(patch), [0]

    def written(values: dict[str, Tensor], path: Path, said: Mapping[str, str] | None = None) -> None:
        save_file(values, path, dict(said or {}))
        done[0] += 1
        if done[0] == number:
            os.truncate(path, path.stat().st_size // 2)
            os._exit(KILLED if updates.wait_for_one() else 1)

    patch.setattr("ragdro.parallel.tensors.save_file", written)


KILLS: dict[str, tuple[int, Callable[[Any], None], Any, dict[str, int]]] = {
    "half of a checkpoint": (0, killed_at_write, (1, "half"), {"selector": 1}),
    "a checkpoint without checksum": (0, killed_at_write, (3, "behind"), {"selector": 1}),
    "half of the part of the first": (0, killed_at_part, 2, {"selector": 2}),
    "half of the part of the second": (1, killed_at_part, 2, {"selector": 2}),
}
"""What of a write is there; which process is killed, and how; how far the state before is."""


@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_while_two_processes_write_resumes_in_one_from_the_state_before(
    alone: Path, kill: str
) -> None:
    rank, act, given, steps = KILLS[kill]
    name = kill.replace(" ", "-")
    running = start(alone, name, SHARDED, prepare=act, given=given, prepared=rank)
    ends = running.wait()
    assert ends.pop(rank) == KILLED and ends == [1], running.said
    assert newest(alone / "runs" / name).steps == steps
    again = alone_with(alone, name, "--resume")
    assert again.wait() == 0, again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs" / name)


@pytest.mark.parametrize("before", [1, 2])
def test_a_model_that_was_written_behind_training_is_read_by_another_number_of_processes(
    alone: Path, before: int
) -> None:
    """The selector is in its checkpoint alone when a process is killed in the generator's second update."""
    name = f"behind-{before}"
    if before == 2:
        running = start(alone, name, SHARDED, prepare=die_in_update, given=4, prepared=0)
        assert running.wait() == [KILLED, 1], running.said
    else:
        one = alone_with(alone, name, prepare=die_in_update, given=4)
        assert one.wait() == KILLED, one.said
    assert newest(alone / "runs" / name).iteration_of("selector") == 0
    if before == 2:
        one = alone_with(alone, name, "--resume")
        assert one.wait() == 0, one.said
    else:
        running = start(alone, name, SHARDED, "--resume")
        assert running.wait() == [0, 0], running.said
    assert_equal_runs(alone / "runs/alone", alone / "runs" / name)
