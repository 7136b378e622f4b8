"""Recall of candidates against a hand calculation."""

from __future__ import annotations

import pytest

from ragdro.evaluation.retrieved import RetrievalRecall
from ragdro.types import Candidates, Passage, Question


def passage(number: int, text: str = "nothing", *, gold: bool | None = None) -> Passage:
    return Passage(str(number), f"T{number}", text, gold)


def test_recall_is_the_mean_over_the_questions_that_it_applies_to() -> None:
    one = Question("1", "?", ("heron",), passages=(passage(1, gold=True), passage(2, "a heron", gold=True)))
    two = Question("2", "?", ("wolf",), passages=(passage(3, gold=True),))
    plain = Question("3", "?", ("bear",))
    candidates = [
        Candidates("1", (passage(1), passage(9), passage(2, "a heron"))),
        Candidates("2", (passage(8, "a wolf"), passage(9), passage(7))),
        Candidates("3", (passage(5), passage(6, "two bears"), passage(4, "the bear"))),
    ]
    recall = RetrievalRecall(depths=(1, 3, 20))
    assert list(recall.watch([one, two, plain], candidates)) == candidates
    assert recall.mean("answer", 1) == pytest.approx(1 / 3)
    assert recall.mean("answer", 3) == 1.0
    assert recall.mean("gold", 1) == pytest.approx((1 / 2 + 0) / 2)
    assert recall.mean("gold", 3) == pytest.approx((1 + 0) / 2)
    assert recall.mean("full recall", 1) == 0.0
    assert recall.mean("full recall", 3) == 0.5
    assert recall.mean("answer", 20) is None
    assert recall.as_lines()[1].split() == ["answer", "0.333", "1.000", "–"]


def test_a_question_with_fewer_candidates_than_a_depth_is_no_other_question() -> None:
    asked = [Question(str(i), "?", ("heron",)) for i in range(3)]
    searched = [(passage(1), passage(2, "a heron")), (passage(1),), (passage(2, "a heron"),)]
    recall = RetrievalRecall(depths=(1, 2, 3))
    for question, passages in zip(asked, searched, strict=True):
        recall.add(question, Candidates(question.id, passages))
    assert recall.mean("answer", 1) == pytest.approx(1 / 3)
    assert recall.mean("answer", 2) == pytest.approx(2 / 3)  # the one without is not left out
    assert recall.mean("answer", 3) is None
