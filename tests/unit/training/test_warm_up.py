"""Whose lists the warm-up teaches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ragdro.errors import ConfigError
from ragdro.training.teachers import teacher_permutation, tied_lists
from tests.worlds import pocket_tasks


def test_every_teacher_puts_first_what_it_says() -> None:
    (task,) = pocket_tasks(1, 6)  # gold are candidates 2 and 3; only 3 holds the answer
    assert teacher_permutation(task, 3) == teacher_permutation(task, 3, "distant") == (3, 0, 1)
    assert teacher_permutation(task, 3, "gold") == (2, 3, 0)
    backwards = tuple(passage.id for passage in reversed(task.candidates.passages))
    ranked = replace(task, question=replace(task.question, ranking=backwards))
    assert teacher_permutation(ranked, 3) == (5, 4, 3)
    assert teacher_permutation(ranked, 3, "distant") == (3, 0, 1)
    unlabelled = replace(task, question=replace(task.question, passages=()))
    with pytest.raises(ConfigError, match=r"warm_up\.teacher: question 'q0'"):
        teacher_permutation(unlabelled, 3, "gold")


def test_a_pointer_is_taught_what_the_teacher_names_each_passage_first_once() -> None:
    (task,) = pocket_tasks(1, 6)  # gold are candidates 2 and 3; only 3 holds the answer
    assert tied_lists(task, 3, "gold") == [(2, 3), (3, 2)]
    assert tied_lists(task, 1, "gold") == [(2,)]
    assert tied_lists(task, 3, "distant") == [(3,)]
