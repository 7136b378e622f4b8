"""SIGTERM: it is held until all is saved, and it is not lost where what it raises is."""

from __future__ import annotations

import os
import signal

import pytest

from ragdro.runs.signals import PREEMPTED, Preemption

LOST = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Ends:
    """A signal comes while Python runs the finaliser of this: what is raised there is printed, not raised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_it_is_raised_at_once_where_nothing_is_held() -> None:
    with Preemption(), pytest.raises(SystemExit) as error:
        os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.code == PREEMPTED


def test_it_waits_for_what_is_held() -> None:
    with Preemption() as preemption:
        preemption.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        preemption.leave_if_asked()
        with pytest.raises(SystemExit) as error:
            preemption.settle()
    assert error.value.code == PREEMPTED


@LOST
def test_one_that_came_in_a_finaliser_is_raised_later() -> None:
    with Preemption() as preemption:
        Ends()
        with pytest.raises(SystemExit) as error:
            preemption.leave_if_asked()
    assert error.value.code == PREEMPTED


@LOST
def test_who_listens_next_leaves_too() -> None:
    with Preemption():
        Ends()
        with Preemption() as inner, pytest.raises(SystemExit):
            inner.leave_if_asked()


def test_without_a_signal_nobody_leaves() -> None:
    with Preemption(), Preemption() as inner:
        inner.hold()
        inner.settle()
        inner.leave_if_asked()
