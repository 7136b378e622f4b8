"""A process of two, each of which writes a part of the models, is killed while a state is written behind
training, or later; the run goes on in another number of processes. What they wrote is a model like any
other."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.runs.saved_states import State
from ragdro.runs.state import StateStore
from tests.pipeline.crash import KILLED, Command
from tests.pipeline.faults import die_in_update
from tests.pipeline.processes import assert_equal_runs, start, weights
from tests.pipeline.test_saving import Updates, killed_at_write

SHARDED = "parallel.strategy=fsdp2"


def newest(run: Path) -> State:
    state = StateStore(run).newest(pytest.fail)
    assert state is not None
    return state


def alone_with(folder: Path, name: str, *options: str, **prepare: Any) -> Command:
    return Command(folder, "train", str(folder / "config.yaml"), f"name={name}", *options, **prepare)


def at_part(given: tuple[str, int], act: Callable[[Path, bool], None]) -> None:
    """Have `act` done behind the write of a part by this process, from 1: of a state, or of a checkpoint,
    when an update is taken behind it, or none comes."""
    writer, number = given
    patch = pytest.MonkeyPatch()
    updates, done = Updates(patch), [0]

    def written(values: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
        save_file(values, path, dict(metadata or {}))
        done[0] += 1
        if done[0] == number:
            act(path, updates.wait_for_one())

    patch.setattr(f"ragdro.{writer}.save_file", written)


STATE, CHECKPOINT = "parallel.tensors", "lm.saving"


def killed_at_part(given: tuple[str, int]) -> None:
    """The process ends when half of its part is there."""

    def end(path: Path, went_on: bool) -> None:
        os.truncate(path, path.stat().st_size // 2)
        os._exit(KILLED if went_on else 1)

    at_part(given, end)


def full_at_part(given: tuple[str, int]) -> None:
    """The disk has no room for the process's part."""

    def refuse(path: Path, went_on: bool) -> None:
        if went_on:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    at_part(given, refuse)


KILLS: dict[str, tuple[str, int, Callable[[Any], None], Any, dict[str, int]]] = {
    "half of a checkpoint": ("fsdp2", 0, killed_at_write, (1, "half"), {"selector": 1}),
    "half of one part of a checkpoint": (
        "fsdp2",
        1,
        killed_at_part,
        (CHECKPOINT, 1),
        {"selector": 1},
    ),
    "half of what each has whole": ("ddp", 1, killed_at_part, (CHECKPOINT, 3), {"selector": 1}),
    "a checkpoint without checksum": ("fsdp2", 0, killed_at_write, (3, "behind"), {"selector": 1}),
    "half of the part of the first": ("fsdp2", 0, killed_at_part, (STATE, 2), {"selector": 2}),
    "half of the part of the second": ("fsdp2", 1, killed_at_part, (STATE, 2), {"selector": 2}),
}
"""What of a write is there; the strategy; which process is killed, and how; how far the state before is."""


@pytest.mark.parametrize("kill", KILLS)
def test_a_kill_while_two_processes_write_resumes_in_one_from_the_state_before(
    alone: Path, kill: str
) -> None:
    strategy, rank, act, given, steps = KILLS[kill]
    name = kill.replace(" ", "-")
    running = start(alone, name, f"parallel.strategy={strategy}", prepare=act, given=given, prepared=rank)
    ends = running.wait()
    assert ends.pop(rank) == KILLED and ends == [1], running.said
    assert newest(alone / "runs" / name).steps == steps
    again = alone_with(alone, name, "--resume")
    assert again.wait() == 0, again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs" / name)


def test_a_disk_that_is_full_for_one_of_them_is_said_in_a_line(alone: Path) -> None:
    running = start(alone, "full", SHARDED, prepare=full_at_part, given=(CHECKPOINT, 1), prepared=1)
    assert running.wait() == [1, 2], running.said
    last = [said.rstrip().splitlines()[-1] for said in running.said]
    assert "another process of the run has ended" in last[0]
    assert last[1].startswith("ragdro: error (process 1 of 2): ") and "No space left" in last[1]
    assert not any("Traceback" in said for said in running.said)
    again = start(alone, "full", SHARDED, "--resume")
    assert again.wait() == [0, 0], again.said
    assert not list((alone / "runs/full").rglob("*.tmp"))
    assert_equal_runs(alone / "runs/alone", alone / "runs/full")


@pytest.fixture(scope="module")
def together(alone: Path) -> Path:
    """A run of two processes, which have written parts of all models."""
    running = start(alone, "together", SHARDED)
    assert running.wait() == [0, 0], running.said
    run = alone / "runs/together"
    for model in run.glob("checkpoints/*/*"):
        files = sorted(path.name for path in model.glob("model*"))
        parts = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
        assert files == [*parts, "model.safetensors.index.json"]
    return run


@pytest.fixture(scope="module")
def longer(alone: Path) -> Path:
    """A run of one process that has an iteration more."""
    one = alone_with(alone, "longer", "iterations=2")
    assert one.wait() == 0, one.said
    return alone / "runs/longer"


def test_models_in_parts_are_evaluated_exported_and_started_from(alone: Path, together: Path) -> None:
    def stdout_of(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    measured = stdout_of("evaluate", str(together))
    stdout_of("export", str(together), str(alone / "exported"))
    stdout_of("merge", str(together))
    for folder in (alone / "exported", together / "merged"):
        for role in ("selector", "generator"):
            assert [path.name for path in (folder / role).glob("model*")] == ["model.safetensors"]
            whole, parts = weights(folder / role), weights(together / "best" / role)
            assert whole.keys() == parts.keys()
            assert all(torch.equal(whole[key], tensor) for key, tensor in parts.items())
    assert stdout_of("evaluate", str(alone / "exported")) == measured
    stdout_of("report", str(together))
    started = alone_with(alone, "started", f"warm_up.from={together}", "iterations=0")
    assert started.wait() == 0, started.said
    for role in ("selector", "generator"):
        model = Path("checkpoints/iteration-0") / role
        first, parts = weights(alone / "runs/started" / model), weights(together / model)
        assert all(torch.equal(first[key], tensor) for key, tensor in parts.items())


@pytest.mark.parametrize("processes", [1, 2])
def test_models_in_parts_are_trained_further_by_any_number_of_processes(
    alone: Path, together: Path, longer: Path, processes: int
) -> None:
    """What one or two extend is what one process had trained so long at once."""
    name = f"extended-{processes}"
    shutil.copytree(together, alone / "runs" / name, symlinks=True)
    more = ("iterations=2", "--resume")
    if processes == 2:
        running = start(alone, name, SHARDED, *more)
        assert running.wait() == [0, 0], running.said
    else:
        one = alone_with(alone, name, *more)
        assert one.wait() == 0, one.said
    assert_equal_runs(longer, alone / "runs" / name, pairs=3)


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
