"""How long a process waits for another, by its work: which group each call goes through, and whose minutes
that one has."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed

from ragdro.config import Timeouts
from ragdro.errors import LostProcessError
from ragdro.parallel import world

MINUTES = {"loading": 1.0, "e_step": 2.0, "gradient_step": 3.0, "saving": 4.0}
CALLS: dict[str, Any] = {
    "all_gather_object": lambda: world.all_gather_object("mine"),
    "all_reduce": lambda: world.all_reduce_sum(1),
    "broadcast_object_list": lambda: world.broadcast_from_rank0(lambda: "said"),
}
"""Each kind of call that all processes make together, by what it is in torch."""


class Group(torch.distributed.ProcessGroup):
    """Two processes that wait for one another for so many `minutes`."""

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(0, 2)  # type: ignore[call-arg]  # its stub knows one of two
        self.minutes = timeout.total_seconds() / 60


class Distributed:
    """Stands in for `torch.distributed`, and keeps the minutes of each call's group."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.default, self.waited, self.fails = 0.0, dict[str, float](), ""
        patch.setattr(world, "env_world_size", lambda: 2)
        patch.setattr(world, "_patience", Timeouts())
        begun = SimpleNamespace(
            init_process_group=self._begin,
            new_group=lambda *, backend, timeout: Group(timeout),
            destroy_process_group=self._end,
            is_initialized=lambda: bool(self.default),
            get_world_size=lambda: 2,
            get_rank=lambda: 0,
        )
        for name in CALLS:
            setattr(begun, name, self._called(name))
        patch.setattr(world, "dist", begun)

    def _begin(self, backend: str, *, timeout: timedelta) -> None:
        self.default = Group(timeout).minutes

    def _end(self) -> None:
        self.default = 0.0

    def _called(self, name: str) -> Any:
        def call(*arguments: Any, group: Group) -> None:
            self.waited[name] = group.minutes
            if self.fails:
                raise RuntimeError(self.fails)

        return call


@pytest.fixture
def distributed(monkeypatch: pytest.MonkeyPatch) -> Distributed:
    return Distributed(monkeypatch)


def test_each_work_has_its_own_minutes_in_every_call(distributed: Distributed) -> None:
    with world.joined("cpu", Timeouts(**MINUTES)):
        assert distributed.default == MINUTES["gradient_step"]  # what gradients are sent in
        of_saves = world.own_group()
        assert isinstance(of_saves, Group) and of_saves.minutes == MINUTES["saving"]
        for call in CALLS.values():
            call()
        assert distributed.waited == dict.fromkeys(CALLS, MINUTES["loading"])  # until training begins
        for work, minutes in MINUTES.items():
            with world.waiting_for(work):  # type: ignore[arg-type]
                for call in CALLS.values():
                    call()
            assert distributed.waited == dict.fromkeys(CALLS, minutes)
    assert world.own_group() is None and world._groups == {}


@pytest.mark.parametrize("work", MINUTES)
def test_what_does_not_come_is_named_with_its_key_and_minutes(work: Any, distributed: Distributed) -> None:
    distributed.fails = "Timed out waiting 240000ms for recv operation to complete"
    said = rf"within {MINUTES[work]:g} minutes \(parallel\.timeouts\.{work}\)"
    with (
        world.joined("cpu", Timeouts(**MINUTES)),
        pytest.raises(LostProcessError, match=said),
        world.waiting_for(work),
    ):
        world.all_reduce_sum(1)
