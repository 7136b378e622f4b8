"""Runs in two processes: what they leave is what one process leaves."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.pipeline.crash import KILLED, Command, Processes
from tests.pipeline.test_train import write_config

SHARDED = ["fsdp2", *(["deepspeed-zero2", "deepspeed-zero3"] if find_spec("deepspeed") else [])]
"""Strategies that share out a model in training, as far as their library is here."""


HALF = ("selector.dtype=bfloat16", "generator.amp=bfloat16")
"""Products in bfloat16, as either key asks for them."""


def uneven(folder: Path, **changes: object) -> Path:
    """Shards of two questions and of one, updates of three questions and of one, one question to measure."""
    path = write_config(folder, "llama", threads=1, iterations=1, **changes)
    config = yaml.safe_load(path.read_text())
    config["e_step"] = {"samples": 3, "questions": 3, "questions_per_shard": 2}
    config["evaluation"]["questions"] = 1
    config["checkpoints"] = {"every": 1, "keep": "all"}
    for fits in (config["warm_up"], config["m_step"]):
        for role, questions in (("selector", 3), ("generator", 1)):
            fits[role] = {"learning_rate": 1e-4, "batch_size": questions, "epochs": 1.5}
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config and `runs/alone`, a run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    running = Command(folder, "train", str(uneven(folder)), "name=alone")
    assert running.wait() == 0, running.said
    return folder


def start(folder: Path, name: str, *options: str, **prepare: object) -> Processes:
    arguments = ("train", str(folder / "config.yaml"), f"name={name}", *options)
    return Processes(folder, *arguments, **prepare)  # type: ignore[arg-type]


def log(run: Path) -> list[dict[str, Any]]:
    """The records; an update that was left out has the gradient of whoever had one, which is no metric."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    left_out = [r for r in records if r["event"] == "update" and r["loss"] is None]
    return [{**r, "gradient_norm": None} if r in left_out else r for r in records]


def assert_equal_runs(run: Path, other: Path, pairs: int = 2) -> None:
    """The same permutations, and metrics, log and the weights of so many `pairs` of models to 1e-4."""
    assert close(
        json.loads((run / "results.json").read_text()), json.loads((other / "results.json").read_text())
    )
    assert close(log(run), log(other))
    weights = sorted(p.relative_to(run) for p in run.glob("checkpoints/*/*/*.safetensors"))
    assert len(weights) == 2 * pairs
    for path in weights:
        tensors, other_tensors = load_file(run / path), load_file(other / path)
        assert tensors.keys() == other_tensors.keys()
        for key, tensor in tensors.items():
            assert float((tensor - other_tensors[key]).abs().max()) <= 1e-4, (path, key)
    for path in run.glob("predictions-*.jsonl"):
        predictions = [
            [json.loads(x) for x in (r / path.name).read_text().splitlines()] for r in (run, other)
        ]
        assert close(*predictions)


def close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    floats = isinstance(a, float) and isinstance(b, float)  # what is not finite is null in the log
    return bool(a == pytest.approx(b, abs=1e-4, rel=1e-4)) if floats else bool(a == b)


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


def losses(run: Path) -> list[float]:
    return [r["loss"] for r in log(run) if r["event"] == "update"]


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


def die_in_update(number: int) -> None:
    """The process ends, as by kill -9, in the `number`-th update of the run."""
    on_update(number, lambda optimiser: os._exit(KILLED))


def on_update(number: int, act: Any) -> None:
    from torch.optim import AdamW

    done, step = [0], AdamW.step

    def taken(self: AdamW) -> None:
        done[0] += 1
        if done[0] == number:
            act(self)
        step(self)

    AdamW.step = taken  # type: ignore[assignment,method-assign]


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


def stall(work: str) -> None:
    """This process stops in an update, or in a shard of an E-step."""
    if work == "gradient_step":
        on_update(2, lambda optimiser: os.kill(os.getpid(), signal.SIGSTOP))
        return
    from ragdro.training import cross_fit

    score, done = cross_fit.answer_log_likelihoods, []

    def late(*arguments: Any) -> Any:
        if not done:
            os.kill(os.getpid(), signal.SIGSTOP)
        done.append(True)
        return score(*arguments)

    cross_fit.answer_log_likelihoods = late


@pytest.mark.slow
def test_a_shared_folder_may_be_late_by_a_second(alone: Path) -> None:
    late = {"folders": [str(alone / "runs/behind"), str(alone / "late-cache")], "seconds": 1.0}
    changes = ("cache=" + str(alone / "late-cache"),)
    running = start(alone, "behind", *changes, prepare=terminated_behind, given=late)
    assert running.wait() == [75, 75], running.said
    again = start(alone, "behind", *changes, "--resume", prepare=see_late, given=late)
    assert again.wait() == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/behind")


def terminated_behind(late: dict[str, Any]) -> None:
    see_late(late)
    terminated_in_update(5)


def see_late(late: dict[str, Any]) -> None:
    """What is younger than so many seconds is not there for this process, unless it wrote it."""
    folders, seconds = tuple(late["folders"]), late["seconds"]
    stat, opened, listed, made = os.stat, io.open, os.listdir, os.mkdir
    own: set[str] = set()

    def hidden(path: Any) -> bool:
        if not isinstance(path, (str, os.PathLike)):
            return False
        name = str(Path(path).absolute())
        if not name.startswith(folders) or name in own:
            return False
        try:
            return time.time() - stat(name).st_ctime < seconds
        except FileNotFoundError:
            return False

    def seen(work: Any) -> Any:
        def look(path: Any = ".", *rest: Any, **named: Any) -> Any:
            if hidden(path):
                raise FileNotFoundError(errno.ENOENT, "not here yet", str(path))
            return work(path, *rest, **named)

        return look

    def open_seen(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if set(mode) & set("wax"):
            own.add(str(Path(path).absolute()))
        return seen(opened)(path, mode, *rest, **named)

    def mkdir(path: Any, *rest: Any, **named: Any) -> None:
        own.add(str(Path(path).absolute()))  # a machine that has asked for it knows it
        made(path, *rest, **named)

    os.mkdir = mkdir  # type: ignore[assignment]
    os.stat = seen(stat)
    io.open = builtins.open = open_seen
    os.listdir = lambda path=".": [n for n in listed(path) if not hidden(Path(path) / n)]  # type: ignore[assignment,misc]


def test_sigterm_at_one_of_them_saves_and_stops_both(alone: Path) -> None:
    running = start(alone, "term", "checkpoints.every=1000", prepare=terminated_in_update, given=5)
    assert running.wait() == [75, 75], running.said
    files = sorted(p.name[:11] for p in (alone / "runs/term/state").glob("*/*.safetensors"))
    assert files == ["shard-00001", "shard-00002"]  # each process its part
    again = start(alone, "term", "--resume", "checkpoints.every=1")
    assert again.wait() == [0, 0], again.said
    assert_equal_runs(alone / "runs/alone", alone / "runs/term")


def terminated_in_update(number: int) -> None:
    """SIGTERM comes to one process while the `number`-th update is computed."""
    on_update(number, lambda optimiser: os.kill(os.getpid(), signal.SIGTERM))


def test_a_loss_that_is_not_finite_in_one_process_is_left_out_by_both(alone: Path) -> None:
    running = start(alone, "bad", "bad_batches=0", prepare=bad_loss)
    assert running.wait() == [1, 1], running.said
    assert "more than bad_batches = 0" in running.said[0]
    (batch,) = (alone / "runs/bad/bad_batches").iterdir()
    record = json.loads(batch.read_text())
    assert len(record["sequences"]) == 3 and record["problem"] == "the loss is nan"


def bad_loss(given: None) -> None:
    """The loss of this process's first micro-batch is NaN."""
    from ragdro.training import m_step

    log_probs, done = m_step.log_probs, []

    def once(*arguments: Any) -> Any:
        values = log_probs(*arguments)
        if not done and values[0].requires_grad:
            done.append(True)
            values[0] = values[0] * float("nan")
        return values

    m_step.log_probs = once


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


def terminated_in_sharded_update(number: int) -> None:
    """Says how many weights of those that are shared out are moved here, then SIGTERM comes."""

    def act(optimiser: Any) -> None:
        from torch.distributed.tensor import DTensor

        moved = optimiser.param_groups[0]["params"]
        parts = [p.to_local() for p in moved if isinstance(p, DTensor)] or moved
        print(f"\nparts: {sum(p.numel() for p in parts)}")
        os.kill(os.getpid(), signal.SIGTERM)

    on_update(number, act)
