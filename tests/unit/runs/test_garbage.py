"""The garbage collector, while a run is read in and while it runs."""

from __future__ import annotations

import gc

import pytest

from ragdro.runs.garbage import settled, uncollected


def test_nothing_is_collected_while_what_stays_is_made_and_all_is_again_behind_it() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_what_stays_is_not_gone_over_and_is_again_when_the_run_is_done() -> None:
    held = [[] for _ in range(1000)]  # type: list[list[int]]
    before = len(gc.get_objects())
    with pytest.raises(KeyError), settled():
        assert len(gc.get_objects()) < before - len(held)
        raise KeyError
    assert len(gc.get_objects()) >= before
