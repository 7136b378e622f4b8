"""A fit that is stopped in its middle, and resumed under ZeRO and under other strategies in turn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import Tensor

from ragdro.runs.state import StateStore
from tests.pipeline.crash import KILLED, Command, die_at_sync
from tests.pipeline.faults import die_in_update, terminated_in_update
from tests.pipeline.processes import assert_equal_runs, losses, start


@dataclass(frozen=True)
class Leg:
    """A command of a run that is stopped again and again: SIGTERM has it leave behind update `until` of the
    generator's warm-up, or one of its processes is killed in that update, or while that is saved."""

    strategy: str
    world_size: int
    until: int
    killed: Literal["computing", "saving"] | None = None


ZERO2, ZERO3 = "deepspeed-zero2", "deepspeed-zero3"
LEGS = {
    ZERO2: (
        Leg(ZERO2, 2, 1),
        Leg(ZERO3, 2, 3, killed="computing"),
        Leg("ddp", 1, 3),
        Leg(ZERO3, 2, 4),
        Leg("fsdp2", 2, 5),
    ),
    ZERO3: (
        Leg(ZERO3, 2, 1),
        Leg(ZERO2, 2, 3, killed="saving"),
        Leg("fsdp2", 2, 3),
        Leg(ZERO3, 2, 4),
        Leg(ZERO3, 1, 5),
    ),
}
"""Legs under ZeRO and others in turn, by the strategy that finishes, in two processes."""
_SELECTOR = 2
"""The updates of the selector before."""


@pytest.fixture(scope="module")
def fifth(alone: Path) -> dict[str, Tensor]:
    """The generator's moments behind its fifth update, in one process."""
    arguments = ("train", str(alone / "config.yaml"), "name=fifth")
    running = Command(alone, *arguments, prepare=terminated_in_update, given=_SELECTOR + 6)
    assert running.wait() == 75, running.said
    return moments(alone / "runs/fifth", 5)


def moments(run: Path, taken: int) -> dict[str, Tensor]:
    """What the newest state has of the generator's optimiser, behind so many updates."""
    store = StateStore(run)
    state = store.newest(pytest.fail)
    assert state is not None and state.steps["generator"] == taken
    saved = store.saved(state, "optimiser-generator").whole()
    counts = {key: saved.pop(key) for key in [*saved] if key.endswith(".step")}
    assert counts and all(float(count) == taken for count in counts.values())
    return saved


def updates_done(run: Path) -> int:
    """How many of the generator's updates the newest state has."""
    state = StateStore(run).newest(pytest.fail)
    return 0 if state is None else state.steps["generator"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("deepspeed") is None, reason="deepspeed is not installed")
@pytest.mark.parametrize("last", LEGS)
def test_a_fit_goes_on_under_zero_and_back(alone: Path, fifth: dict[str, Tensor], last: str) -> None:
    """Stopped and killed in the middle of one fit, resumed each time under another strategy or in another
    number of processes: no update is taken twice, and no moment is lost."""
    name = f"legs-{last}"
    run, taken, options = alone / "runs" / name, -_SELECTOR, list[str]()
    for leg in LEGS[last]:
        countdown = leg.until - taken + (leg.world_size == 1)  # which leaves without the update that it is in
        act = die_in_update if leg.killed else terminated_in_update
        if leg.killed == "saving":
            act, countdown = die_at_sync, 2 * countdown  # a save syncs its file, then the folder's list
        running = begin(alone, name, leg.strategy, leg.world_size, act, countdown, *options)
        ends = [one.wait(300) for one in running]
        assert ends == ([1, KILLED] if leg.killed else [75] * leg.world_size), [one.said for one in running]
        taken, options = updates_done(run), ["--resume"]
        assert taken in ((leg.until - 2, leg.until - 1) if leg.killed else (leg.until,))
    saved = moments(run, 5)
    assert saved.keys() == fifth.keys()
    for key, moment in saved.items():
        assert float((moment - fifth[key]).abs().max()) <= 1e-3 * float(fifth[key].abs().max()), key
    running = begin(alone, name, last, 2, count_updates, None, *options)
    assert [one.wait(300) for one in running] == [0, 0], [one.said for one in running]
    everything = len(losses(alone / "runs/alone"))
    assert re.findall("^update ([0-9]+)$", running[1].said, re.MULTILINE)[-1] == str(
        everything - _SELECTOR - 5
    )
    assert_equal_runs(alone / "runs/alone", run)


def begin(
    folder: Path, name: str, strategy: str, world_size: int, prepare: Any, given: Any, *options: str
) -> list[Command]:
    """The run in one process or in two; `prepare` runs in the last one first."""
    options = (f"parallel.strategy={strategy}", *options)
    if world_size == 2:
        return start(folder, name, *options, prepare=prepare, given=given).commands
    arguments = ("train", str(folder / "config.yaml"), f"name={name}", *options)
    return [Command(folder, *arguments, prepare=prepare, given=given)]


def count_updates(given: None) -> None:
    """Says of each update that this process takes which one it is."""
    from torch.optim import AdamW

    done, step = [0], AdamW.step

    def taken(self: AdamW) -> None:
        done[0] += 1
        print(f"\nupdate {done[0]}")
        step(self)

    AdamW.step = taken  # type: ignore[assignment,method-assign]
