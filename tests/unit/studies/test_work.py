"""A study's commands, and a signal that comes while Python runs a finaliser."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.runs.signals import PREEMPTED
from ragdro.studies.work import Job, carry_out
from tests.unit.runs.test_signals import LOST, Ends


@LOST
def test_a_signal_whose_exception_is_lost_ends_a_study(tmp_path: Path) -> None:
    looks: list[Path] = []

    def done() -> int:
        if looks:  # at first nothing listens
            Ends()
        looks.append(tmp_path)
        return 0

    sleeper = ("timeit", "-n1", "-r1", "import time; time.sleep(20)")
    with pytest.raises(SystemExit) as error:
        carry_out("study", [Job("job", sleeper, 1, done, tmp_path / "log.txt")], at_once=1)
    assert error.value.code == PREEMPTED
