"""Where a warning of ours stands."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ragdro.errors import RagdroWarning, warn


def test_a_warning_stands_at_the_users_line_in_threads_too() -> None:
    with pytest.warns(RagdroWarning) as warned, ThreadPoolExecutor(1) as pool:
        warn("here")
        pool.submit(warn, "in a thread of ours").result()
    assert [one.filename for one in warned] == [__file__] * 2
    assert warned[0].lineno + 1 == warned[1].lineno


def test_a_users_own_thread_is_the_users() -> None:
    def work() -> None:
        warn("there")

    with pytest.warns(RagdroWarning) as warned:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert warned[0].filename == __file__ and warned[0].lineno == work.__code__.co_firstlineno + 1
