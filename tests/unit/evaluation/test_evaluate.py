"""A question's record, by hand."""

from __future__ import annotations

from ragdro.evaluation.evaluate import evaluate
from ragdro.types import Prediction, Selection
from tests.worlds import pocket_tasks


def test_recall_of_a_list_that_stopped_early_is_that_of_what_it_has() -> None:
    (task,) = pocket_tasks(1, 5)
    right, wrong = (
        evaluate(Prediction(task, Selection((index,), (0.5,), 3), "Freedonia")) for index in (3, 0)
    )
    assert [right[f"recall_at_{k}"] for k in (1, 3, 5)] == [1.0, 1.0, None]
    assert [wrong[f"recall_at_{k}"] for k in (1, 3, 5)] == [0.0, 0.0, None]
    fixed = evaluate(Prediction(task, Selection((3,), (0.5,)), "Freedonia"))
    assert [fixed[f"recall_at_{k}"] for k in (1, 3, 5)] == [1.0, None, None]
