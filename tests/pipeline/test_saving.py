"""The checkpoint of a fit's end is written while training goes on: of weights that change meanwhile, in a
process that is killed, on a disk that is full."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.optim import AdamW

import ragdro
from ragdro.config import load_config
from ragdro.lm import saving
from ragdro.lm.saving import ModelFiles
from ragdro.lm.snapshot import trained_parameters
from ragdro.parallel.sharding import copied_weights
from ragdro.parallel.tensors import begin_writing
from ragdro.runs.checkpointer import RunCheckpointer
from ragdro.runs.folder import RunFolder
from ragdro.runs.models import load_pair
from ragdro.runs.saved_states import State
from ragdro.runs.state import StateStore
from ragdro.training.parts import REFERENCE
from tests.pipeline.crash import KILLED, Command, outcome, small_run
from tests.pipeline.test_adapters import LORA

Write = Callable[[ModelFiles, Path], None]
EVENT = 60.0
"""Seconds after which what is waited for does not come: no test that passes waits so long."""


class Updates:
    """Counts the updates that are taken behind the last copy that is to be written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._behind, self._changed = 0, threading.Condition()
        step = AdamW.step

        def take(optimiser: AdamW) -> None:
            step(optimiser)
            with self._changed:
                self._behind += 1
                self._changed.notify_all()

        def counted(copy: Callable[..., Any]) -> Callable[..., Any]:
            def copied(*arguments: Any, **named: Any) -> Any:
                self._behind = 0
                return copy(*arguments, **named)

            return copied

        patch.setattr(AdamW, "step", take)
        patch.setattr(RunFolder, "checkpoint_writer", counted(RunFolder.checkpoint_writer))
        patch.setattr("ragdro.runs.state.begin_writing", counted(begin_writing))

    def wait_for_one(self) -> bool:
        """Wait until one is taken; false where none comes."""
        with self._changed:
            return self._changed.wait_for(lambda: self._behind > 0, EVENT)


def at_write(number: int, act: Callable[[Write, ModelFiles, Path], None], patch: pytest.MonkeyPatch) -> None:
    """Have `act` done in place of write number `number` of a checkpoint, from 1."""
    done, write = [0], ModelFiles.write

    def written(files: ModelFiles, folder: Path) -> None:
        done[0] += 1
        if done[0] == number:
            act(write, files, folder)
        else:
            write(files, folder)

    patch.setattr(ModelFiles, "write", written)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with a config whose folds are fitted right behind the generator, and the outcome of a run."""
    folder = tmp_path_factory.mktemp("reference")
    ragdro.run(load_config(small_run(folder, cross_fitted=True), ["name=whole"]))
    return folder, outcome(folder / "runs/whole")


@pytest.mark.parametrize(("number", "role"), [(1, "selector"), (2, "generator"), (4, "generator")])
def test_training_goes_on_and_what_is_written_is_what_was_trained(
    number: int, role: str, reference: tuple[Path, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write waits for an update of the next fit: of the other role, or of a fold, whose weights are then
    in the place of the generator's."""
    folder, expected = reference
    updates, went_on = Updates(monkeypatch), list[tuple[str, bool]]()

    def wait(write: Write, files: ModelFiles, to: Path) -> None:
        went_on.append((to.name, updates.wait_for_one()))
        write(files, to)

    at_write(number, wait, monkeypatch)
    ragdro.run(load_config(folder / "config.yaml", [f"name=behind-{number}"]))
    assert went_on == [(role, True)]
    assert outcome(folder / f"runs/behind-{number}") == expected


def start(folder: Path, name: str, *options: str, **prepare: Any) -> Command:
    return Command(folder, "train", str(folder / "config.yaml"), f"name={name}", *options, **prepare)


def finish(folder: Path, name: str) -> dict[str, bytes]:
    running = start(folder, name, "--resume")
    assert running.wait() == 0, running.said
    assert not list((folder / "runs" / name).rglob("*.tmp"))
    return outcome(folder / "runs" / name)


def newest(run: Path) -> State:
    state = StateStore(run).newest(pytest.fail)
    assert state is not None
    return state


@pytest.mark.parametrize(("number", "role"), [(1, "selector"), (4, "generator")])
@pytest.mark.parametrize("kill", ["half", "behind"])
def test_a_kill_while_it_is_written_resumes_from_the_state_before(
    number: int, role: str, kill: str, reference: tuple[Path, dict[str, bytes]]
) -> None:
    """Training has gone on by then; the files are half there, or all there and no state knows of them."""
    folder, expected = reference
    name = f"killed-{number}-{kill}"
    running = start(folder, name, prepare=killed_at_write, given=(number, kill))
    assert running.wait() == KILLED, running.said
    run = folder / "runs" / name
    assert (run / f"checkpoints/iteration-{(number - 1) // 2}" / role).is_dir() == (kill == "behind")
    state = newest(run)
    assert state.iteration_of(role) is None and state.steps[role] == 2  # of three updates
    assert finish(folder, name) == expected


def killed_at_write(given: tuple[int, str]) -> None:
    """The process ends in a write, or behind it and before it is hashed, when training has gone on."""
    number, kill = given
    patch = pytest.MonkeyPatch()
    updates = Updates(patch)

    def end(*arguments: Any) -> None:
        os._exit(KILLED if updates.wait_for_one() else 1)

    def act(write: Write, files: ModelFiles, folder: Path) -> None:
        if kill == "half":
            patch.setattr(saving, "rename_durably", end)
        write(files, folder)
        end()

    at_write(number, act, patch)


@pytest.fixture(scope="module")
def with_snapshot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A folder with a config that takes a snapshot of both models behind the warm-up, and a run's outcome."""
    folder = tmp_path_factory.mktemp("with-snapshot")
    objective = {"kind": "rloo", "kl": 0.1}
    ragdro.run(load_config(small_run(folder, iterations=1, objective=objective), ["name=whole"]))
    return folder, outcome(folder / "runs/whole")


def test_a_snapshot_behind_a_fit_waits_for_no_checkpoint_and_a_kill_then_loses_neither(
    with_snapshot: tuple[Path, dict[str, bytes]],
) -> None:
    folder, expected = with_snapshot
    running = start(folder, "killed", prepare=killed_behind_snapshot)
    assert running.wait() == KILLED, running.said
    state = newest(folder / "runs/killed")
    assert state.steps["generator"] == 2 and REFERENCE not in state.tensors
    assert finish(folder, "killed") == expected


def killed_behind_snapshot(given: None) -> None:
    """The process ends in the write of the generator that was warmed up, when the snapshot is taken."""
    patch, taken, save = pytest.MonkeyPatch(), threading.Event(), RunCheckpointer.save_snapshot

    def noted_snapshot(checkpointer: RunCheckpointer, name: str) -> None:
        save(checkpointer, name)
        if name == REFERENCE:
            taken.set()

    patch.setattr(RunCheckpointer, "save_snapshot", noted_snapshot)
    at_write(2, lambda *write: os._exit(KILLED if taken.wait(EVENT) else 1), patch)


def test_a_disk_that_is_full_by_then_is_said_in_a_line_at_the_next_save(
    reference: tuple[Path, dict[str, bytes]],
) -> None:
    folder, expected = reference
    running = start(folder, "full", prepare=full_at_write, given=3)
    assert running.wait() == 2
    last = running.said.rstrip().splitlines()[-1]
    assert last.startswith("ragdro: error: ") and "checkpoints/iteration-1/selector: No space left" in last
    assert "went on" in running.said and "Traceback" not in running.said
    assert finish(folder, "full") == expected


def full_at_write(number: int) -> None:
    """The disk refuses the write, when an update is taken behind it."""
    patch = pytest.MonkeyPatch()
    updates = Updates(patch)

    def act(write: Write, files: ModelFiles, folder: Path) -> None:
        if updates.wait_for_one():
            print("went on")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    at_write(number, act, patch)


ROLES: dict[str, dict[str, Any]] = {
    "plain": {},
    "adapter": {"adapter": LORA},
    "pointer": {"kind": "pointer", "prompt": "tiny-pointer"},
    "frozen pointer": {"kind": "pointer", "prompt": "tiny-pointer", "pointer": {"frozen": True}},
}


@pytest.mark.parametrize("kind", ROLES)
def test_the_copy_is_of_what_is_trained_and_is_what_a_state_needs(kind: str, tmp_path: Path) -> None:
    path = small_run(tmp_path)
    values = yaml.safe_load(path.read_text())
    values["selector"] |= ROLES[kind]
    path.write_text(yaml.safe_dump(values))
    config = load_config(path)
    model, generator = load_pair(config)
    before = {name: p.detach().clone() for name, p in trained_parameters(model).items()}
    trained = {p.data_ptr() for p in trained_parameters(model).values()}
    for name, tensor in copied_weights(model.hf).items():
        own = model.hf.state_dict()[name].data_ptr()
        assert (tensor.data_ptr() == own) == (own not in trained)
    write = RunFolder(config).checkpoint_writer(1, "selector", model)
    with torch.no_grad():
        for parameter in trained_parameters(model).values():
            parameter.fill_(7.0)
    files, lacking = write()
    held = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert all(torch.equal({**held, **lacking}[name], value) for name, value in before.items())
    beside = [name for name in before if name not in held]
    assert sorted(lacking) == sorted(beside)
    assert bool(held) == (kind in ("plain", "pointer")) and bool(beside) == (kind != "plain")
    RunFolder(config).checkpoint_writer(1, "generator", generator)()
    again, _ = load_pair(config, tmp_path / "runs/run/checkpoints/iteration-1")
    assert all(torch.equal(p, before[name]) for name, p in trained_parameters(again).items())
