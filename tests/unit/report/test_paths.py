"""A path as it is shown: what is said of each round, by hand, and that its text stays text."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ragdro.evaluation.evaluate import evaluate
from ragdro.report.errors import errors
from ragdro.report.paths import further_queries, rounds
from ragdro.report.predictions import print_headline, print_path
from ragdro.types import Candidates, Passage, Prediction, Question, QuestionPath, Round, Selection, Task
from tests.unit.report.test_table_html import EVIL, Tags

A, B, C, D = (Passage(name, name.upper(), f"text of {name}") for name in "abcd")
QUESTION = Question("q", "Where?", ("gold",))


def predicted(*further: Round) -> Prediction:
    """The first round finds A, B and C and reads C; `further` ones are given."""
    first = Round("Where?", (), Candidates("q", (A, B, C), (12.346, 3.0, 0.01639)), (2,))
    found = tuple(dict.fromkeys(p for one in (first, *further) for p in one.candidates.passages))
    path = QuestionPath((first, *further))
    permutation = tuple(found.index(p) for p in path.read)
    selection = Selection(permutation, (0.5, 0.25, 0.125)[: len(permutation)], 3, path)
    return Prediction(Task(QUESTION, Candidates("q", found)), selection, "wrong")


def test_each_round_says_what_it_asked_found_and_chose() -> None:
    """Ranks and scores are those of the round's own query; places start again in each round."""
    asked = Round("b?", (1,), Candidates("q", (D, B, A)), (1, 0), log_query=math.log(0.75))
    enough = Round("Answer", (2,), Candidates("q", ()), log_query=math.log(1e-5))
    record = evaluate(predicted(asked, enough))
    assert record["retrievals"] == 2.0 and further_queries(record) == ["b?", "Answer"]
    first, second, third = rounds(record)
    assert (first.label, first.query, first.note, first.found) == ("round 1", "Where?", "", 3)
    (choice,) = first.choices
    assert (choice.entry["id"], choice.rank, choice.score) == ("c", 3, "0.01639")
    assert choice.words == "chosen 1st with probability 0.50"
    assert first.others == "[1] A 12.35; [2] B 3"
    assert second.note == "written with probability 0.75" and second.others == "[3] A"
    assert [(c.entry["id"], c.rank, c.score) for c in second.choices] == [("b", 2, ""), ("d", 1, "")]
    assert second.choices[1].words == "chosen 2nd with probability 0.12, given the first"
    assert (third.note, third.choices, third.others) == (
        "written with probability < 0.01; there is enough",
        (),
        "",
    )


def test_a_first_query_that_is_certain_was_written_all_the_same() -> None:
    path = QuestionPath((Round("Where?", (1, 2), Candidates("q", (A,)), (0,), log_query=0.0),))
    selection = Selection((0,), (1.0,), 1, path)
    record = evaluate(Prediction(Task(QUESTION, Candidates("q", (A,))), selection, "wrong"))
    assert further_queries(record) == ["Where?"]
    assert rounds(record)[0].note == "written with probability 1.00"


def test_a_query_that_finds_nothing_is_shown_as_such() -> None:
    record = evaluate(predicted(Round("", (), Candidates("q", ()), log_query=math.log(0.5))))
    assert rounds(record)[1].note == "written with probability 0.50; finds nothing to read"
    assert (
        "round 2: (nothing) (written with probability 0.50; finds nothing to read)"
        in Tags(errors([record])).said
    )


def test_text_of_a_path_is_never_markup() -> None:
    evil = Passage("e", EVIL, EVIL)
    other = Passage("f", EVIL + "2", "")
    record = evaluate(predicted(Round(EVIL, (1,), Candidates("q", (evil, other), (1.0, 0.5)), (0,))))
    page = Tags(errors([record]))
    assert not {"script", "img"} & set(page.tags)
    assert page.said.count('<script>alert("1")</script>') == 5  # summary, query, title, text, found too
    assert "\u202e" not in page.said and "then asked: <script>" in page.said
    assert "; 1st of 2 found; score 1)" in page.said


@pytest.mark.parametrize("marked", ["[red]x[/red]", "\x1b[31mx"])
def test_a_terminal_shows_a_path_and_is_not_steered(capsys: pytest.CaptureFixture[str], marked: str) -> None:
    prediction = predicted(Round(marked, (1,), Candidates("q", (D,), (7.0,)), (0,)))
    print_path(prediction)
    print_headline(prediction)
    shown = capsys.readouterr().out
    assert f"round 2: {marked.replace(chr(27), chr(0xFFFD))}  (written with probability 1.00)" in shown
    assert "\x1b" not in shown and "  [ 1] 7 (D) text of d\n   chosen 1st with probability 0.25\n" in shown
    assert shown.endswith("answer: wrong\n")


@pytest.mark.parametrize(
    ("probabilities", "said"),
    [
        ((0.5,), "\nThe question is asked once; there is no further query.\n"),
        (None, "The retriever's order is read. The question is asked once; there is no further"),
    ],
)
def test_a_question_asked_once_has_one_round(
    capsys: pytest.CaptureFixture[str], probabilities: Any, said: str
) -> None:
    task = Task(QUESTION, Candidates("q", (A, B), (2.0, 1.0)))
    prediction = Prediction(task, Selection((1,), probabilities, 1), "x")
    print_path(prediction)
    shown = capsys.readouterr().out
    assert shown.startswith("one round: Where?\n  [ 2] 1 (B) text of b\n") and said in shown
    assert "found too: [1] A 2" in shown and "path" not in evaluate(prediction)
