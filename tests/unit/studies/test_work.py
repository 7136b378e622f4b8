"""A study's commands, and a signal that comes while Python runs a finaliser."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ragdro.studies.work import Job, carry_out


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_lost_ends_a_study(tmp_path: Path) -> None:
    looks: list[Ends] = []

    def done() -> int:
        looks.append(Ends())
        looks.clear()
        return 0

    sleeper = ("timeit", "-n1", "-r1", "import time; time.sleep(20)")
    with pytest.raises(SystemExit) as error:
        carry_out("study", [Job("job", sleeper, 1, done, tmp_path / "log.txt")], at_once=1)
    assert error.value.code == 75


class Ends:
    """What is raised in its finaliser is printed, not raised; the first time nothing listens."""

    count = 0

    def __del__(self) -> None:
        Ends.count += 1
        if Ends.count > 1:
            os.kill(os.getpid(), signal.SIGTERM)
