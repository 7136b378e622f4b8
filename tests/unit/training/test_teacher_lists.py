"""The teacher's lists, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ragdro.training.teachers import teacher_permutation
from ragdro.types import Permutation, Task
from tests.worlds import pocket_tasks


def ranked(*names: str) -> Task:
    (task,) = pocket_tasks(1, 5)
    return replace(task, question=replace(task.question, ranking=names))


@pytest.mark.parametrize(
    ("task", "stop", "expected"),
    [
        (pocket_tasks(1, 5)[0], False, (3, 0, 1)),  # the town is in passage 3 alone
        (pocket_tasks(1, 5)[0], True, (3,)),
        (ranked("0-4", "0-1"), False, (4, 1, 0)),
        (ranked("0-4", "0-1"), True, (4, 1)),
        (ranked("0-4", "0-1", "0-3", "0-2"), True, (4, 1, 3)),  # no more than K
        (ranked("elsewhere"), True, (0,)),  # and no fewer than one
    ],
)
def test_a_list_that_may_stop_ends_with_what_the_teacher_names(
    task: Task, stop: bool, expected: Permutation
) -> None:
    assert teacher_permutation(task, 3, stop=stop) == expected
