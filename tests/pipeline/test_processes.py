"""Runs in two processes: what they leave is what one process leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.pipeline.crash import KILLED, Command
from tests.pipeline.faults import (
    bad_loss,
    die_in_update,
    see_late,
    stall,
    terminated_behind,
    terminated_in_sharded_update,
    terminated_in_update,
)
from tests.pipeline.processes import HALF, assert_equal_runs, log, losses, start

SHARDED = ["fsdp2", *(["deepspeed-zero2", "deepspeed-zero3"] if find_spec("deepspeed") else [])]
"""Strategies that share out a model in training, as far as their library is here."""


def test_two_processes_leave_what_one_leaves(alone: Path) -> None:
    running = start(alone, "both")
    assert running.wait() == [0, 0], running.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/both")
    assert "warm-up" in running.said[0] and running.said[1] == ""
    assert start(alone, "both").wait() == [2, 2]


@pytest.fixture(scope="module")
def half_losses(alone: Path) -> list[float]:
    """The losses of one process that multiplies in bfloat16."""
    running = Command(alone, "train", str(alone / "config.yaml"), "name=half", *HALF)
    assert running.wait() == 0, running.said
    return losses(alone / "runs/half")


@pytest.mark.parametrize("strategy", SHARDED)
def test_parts_computed_in_bfloat16_give_the_losses_of_one_process(
    alone: Path, half_losses: list[float], strategy: str
) -> None:
    """FSDP2 gathers copies of 16 bits; what is trained and its gradients are float32 everywhere."""
    running = start(alone, f"half-{strategy}", f"parallel.strategy={strategy}", *HALF)
    assert running.wait(300) == [0, 0], running.said
    assert not any("separately" in said for said in running.said)
    sharded = losses(alone / "runs" / f"half-{strategy}")
    assert sharded == pytest.approx(half_losses, rel=0.01) and len(sharded) > 4
    assert sharded != pytest.approx(losses(alone / "runs/alone"), rel=1e-5)  # it was not computed in float32


@pytest.mark.parametrize("strategy", SHARDED)
def test_layers_that_are_computed_again_leave_what_one_process_leaves(alone: Path, strategy: str) -> None:
    again = [f"{role}.gradient_checkpointing=true" for role in ("selector", "generator")]
    running = start(alone, f"again-{strategy}", f"parallel.strategy={strategy}", *again)
    assert running.wait(300) == [0, 0], running.said
    assert_equal_runs(alone / "runs/alone", alone / "runs" / f"again-{strategy}")


def test_torchrun_starts_the_very_same_command(alone: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "ragdro", "train", str(alone / "config.yaml"), "name=torchrun"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(alone / "runs/alone", alone / "runs/torchrun")
    assert json.loads((alone / "runs/torchrun/environment.json").read_text())["processes"] == 2


def test_where_one_dies_the_other_stops_and_both_go_on_later(alone: Path) -> None:
    running = start(alone, "died", prepare=die_in_update, given=5)
    begun = time.monotonic()
    assert running.wait(60) == [1, KILLED]
    assert time.monotonic() - begun < 60
    assert running.said[0].count("ragdro: error: another process of the run has ended") == 1
    assert "Traceback" not in running.said[0]
    again = start(alone, "died", "--resume")
    assert again.wait() == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/died")


@pytest.mark.parametrize("work", ["e_step", "gradient_step"])
def test_one_that_lives_and_does_not_come_is_waited_for_as_long_as_its_work_says(
    alone: Path, work: str
) -> None:
    """It is stopped like a machine without power: all its threads are silent and its connections stay open.
    The other works, a save that is under way among them, are waited for longer than this test takes."""
    running = start(alone, f"late-{work}", f"parallel.timeouts.{work}=0.05", prepare=stall, given=work)
    assert running.commands[0].wait() == 1, running.said
    os.kill(int(running.commands[1].process.pid or 0), signal.SIGCONT)
    assert running.wait() == [1, 1], running.said
    assert f"did not come within 0.05 minutes (parallel.timeouts.{work})" in running.said[0]
    assert "another process of the run has ended" in running.said[1]
    assert not any("Traceback" in said for said in running.said)


@pytest.mark.slow
@pytest.mark.parametrize("behind", [0, 1])
def test_a_shared_folder_may_be_late(alone: Path, behind: int) -> None:
    """By a second at first, and on resume until long after the process has asked what there is."""
    name, cache = f"behind-{behind}", alone / f"late-cache-{behind}"
    late = {"folders": [str(alone / "runs" / name), str(cache)], "seconds": 1.0}
    prepared = {"given": late, "prepared": behind}
    running = start(alone, name, f"cache={cache}", prepare=terminated_behind, **prepared)
    assert running.wait() == [75, 75], running.said
    late["seconds"] = 15.0
    again = start(alone, name, f"cache={cache}", "--resume", prepare=see_late, **prepared)
    assert again.wait() == [0, 0], again.said
    assert "resuming from saved state" in again.said[0]
    assert_equal_runs(alone / "runs/alone", alone / "runs" / name)


def test_sigterm_at_one_of_them_saves_and_stops_both(alone: Path) -> None:
    running = start(alone, "term", "checkpoints.every=1000", prepare=terminated_in_update, given=5)
    assert running.wait() == [75, 75], running.said
    files = sorted(p.name[:11] for p in (alone / "runs/term/state").glob("*/*.safetensors"))
    assert files == ["shard-00001", "shard-00002"]  # each process its part
    again = start(alone, "term", "--resume", "checkpoints.every=1")
    assert again.wait() == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/term")


def test_a_loss_that_is_not_finite_in_one_process_is_left_out_by_both(alone: Path) -> None:
    running = start(alone, "bad", "bad_batches=0", prepare=bad_loss)
    assert running.wait() == [1, 1], running.said
    assert "more than bad_batches = 0" in running.said[0]
    (batch,) = (alone / "runs/bad/bad_batches").iterdir()
    record = json.loads(batch.read_text())
    assert len(record["sequences"]) == 3 and record["problem"] == "the loss is nan"


@pytest.mark.parametrize("strategy", SHARDED)
def test_parts_of_a_model_leave_what_whole_ones_leave_also_after_a_stop(alone: Path, strategy: str) -> None:
    sharded = f"parallel.strategy={strategy}"
    running = start(alone, strategy, sharded, prepare=terminated_in_sharded_update, given=5)
    assert running.wait(300) == [75, 75], running.said
    (parts,) = re.findall("^parts: ([0-9]+)$", running.said[1], re.MULTILINE)
    assert int(parts) == pytest.approx(shared_out(alone / "model", strategy) / 2, abs=8)  # rounded up
    again = start(alone, strategy, sharded, "--resume")
    assert again.wait(300) == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs" / strategy)


def test_a_fit_goes_on_under_another_strategy_in_another_number_of_processes(alone: Path) -> None:
    """Stopped in the middle of a fit in two processes that share out the model, then in one that has it all,
    then finished in two again."""
    sharded, whole = "parallel.strategy=fsdp2", "parallel.strategy=ddp"
    running = start(alone, "moved", sharded, prepare=terminated_in_update, given=5)
    assert running.wait(300) == [75, 75], running.said
    arguments = ("train", str(alone / "config.yaml"), "name=moved", whole, "--resume")
    one = Command(alone, *arguments, prepare=terminated_in_update, given=2)
    assert one.wait() == 75, one.said
    again = start(alone, "moved", sharded, "--resume")
    assert again.wait(300) == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/moved")


@pytest.fixture(scope="module")
def without_one_update(alone: Path) -> Path:
    """A warm-up under ddp of which one update was left out."""
    running = start(alone, "left-out", "iterations=0", prepare=bad_loss)
    assert running.wait(300) == [0, 0], running.said
    return alone / "runs/left-out"


@pytest.mark.parametrize("strategy", SHARDED)
def test_an_update_that_is_left_out_is_so_with_parts_of_a_model(
    alone: Path, without_one_update: Path, strategy: str
) -> None:
    name, sharded = f"left-out-{strategy}", f"parallel.strategy={strategy}"
    running = start(alone, name, "iterations=0", sharded, prepare=bad_loss)
    assert running.wait(300) == [0, 0], running.said
    assert [r["problem"] for r in log(alone / "runs" / name) if r["event"] == "bad_batch"] == [
        "the loss is nan"
    ]
    assert_equal_runs(without_one_update, alone / "runs" / name, pairs=1)


def shared_out(model: Path, strategy: str) -> int:
    """How many weights the processes share out to be moved: FSDP2 the layers' alone."""
    weights = load_file(model / "model.safetensors")
    return sum(w.numel() for name, w in weights.items() if strategy != "fsdp2" or ".layers." in name)
