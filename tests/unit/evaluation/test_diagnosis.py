"""Whose fault, counted by hand; what is measured of a prediction, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ragdro.evaluation.diagnosis import Faults, ceiling, faults, k_precision, was_read
from ragdro.evaluation.evaluate import evaluate
from ragdro.types import Passage, Prediction, Selection
from tests.worlds import pocket_tasks


def record(read: bool, right: bool, hops: int | None = None, **other: Any) -> dict[str, Any]:
    return {
        "full_recall": float(read),
        "answer_read": 0.0,
        "exact_match": float(right),
        "hops": hops,
        **other,
    }


def test_faults_are_counted_by_kind_and_by_hops() -> None:
    records = [record(True, True, 1), record(True, False, 2), record(True, False, 2), record(False, True, 2),
               record(False, False, 1)]  # fmt: skip
    everything, one, two = faults(records)
    assert everything == Faults("all", 1, 2, 1, 1) and everything.questions == 5
    assert everything.context_use == pytest.approx(1 / 3) and everything.right_unread == 0.5
    assert one == Faults("1-hop", 1, 0, 0, 1) and two == Faults("2-hop", 0, 2, 1, 0)
    assert two.right_unread == 1 and one.right_unread == 0 and two.context_use == 0
    assert Faults("none").context_use is None and Faults("none").right_unread is None
    assert len(faults([record(True, True, 1)])) == 1  # one number of hops is no breakdown


def test_without_labels_what_is_needed_is_a_passage_that_holds_an_answer() -> None:
    assert was_read({"full_recall": None, "answer_read": 1.0})
    assert not was_read({"full_recall": 0.0, "answer_read": 1.0})
    held = [{"gold_in_candidates": 0.0, "answer_in_candidates": 1.0}, {"answer_in_candidates": 1.0}]
    assert ceiling(held) == 0.5 and ceiling([{}]) is None


def test_k_precision_by_hand() -> None:
    read = [Passage("a", "Mara Voss", "works for the Zorba."), Passage("b", "", "in Freedonia")]
    assert k_precision("Zorba, Sylvania", read) == 0.5 and k_precision("the Freedonia", read) == 1
    assert k_precision("Voss Voss", read) == 0.5  # it stands there once
    assert k_precision("the", read) is None and k_precision("Zorba", []) == 0
    assert k_precision("北京人", [Passage("p", "", "北京是中国的首都")]) == pytest.approx(2 / 3)


def test_a_prediction_says_what_was_read_and_what_could_have_been() -> None:
    (task,) = pocket_tasks(1, 5)
    right, wrong = (
        evaluate(Prediction(task, Selection((index,), (0.5,), 3), "Freedonia")) for index in (3, 0)
    )
    assert right["answer_read"] == 1 and wrong["answer_read"] == 0 and wrong["answer_in_candidates"] == 1
    assert right["k_precision"] == 1
    without = replace(task, candidates=replace(task.candidates, passages=task.candidates.passages[:1]))
    assert evaluate(Prediction(without, Selection((0,), None), "x"))["answer_in_candidates"] == 0
