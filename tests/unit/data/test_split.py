"""A split is disjoint by text, whole, stable, and as large as asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragdro.data import load_questions, read_questions
from ragdro.data.convert import write_questions
from ragdro.data.split import split
from ragdro.errors import DataError
from ragdro.types import Question


def asked(count: int) -> list[Question]:
    return [Question(f"q{i}", f"What is {i}?", ("x",)) for i in range(count)]


def test_both_parts_make_the_whole_and_keep_its_order() -> None:
    questions = asked(1000)
    train, validation = split(questions, 0.1)
    assert sorted([*train, *validation], key=questions.index) == questions
    assert train == [q for q in questions if q in set(train)] and len(validation) == 100


def test_the_same_question_never_stands_in_both_and_more_questions_move_none() -> None:
    questions = asked(200)
    twins = [*questions, *(Question(f"t{i}", f" what IS {i}?", ("y",)) for i in range(200))]
    train, validation = split(twins, 0.3)
    assert not {q.question.split()[-1] for q in train} & {q.question.split()[-1] for q in validation}
    assert {q.id for q in split(questions, 0.3)[1]} == {q.id for q in validation if q.id.startswith("q")}


def test_few_questions_still_make_two_parts_and_one_cannot() -> None:
    assert [len(part) for part in split(asked(2), 0.01)] == [1, 1]
    with pytest.raises(DataError, match="1 different question cannot be split; give"):
        split(asked(1), 0.5)
    with pytest.raises(DataError, match="1 different question cannot be split; give"):
        split([*asked(1), Question("twin", "what is 0?", ("x",))], 0.5)


@pytest.mark.parametrize("count", [2, 3, 5, 20, 37, 1000])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, 0.5, 0.9])
def test_no_other_number_of_questions_is_closer_to_the_fraction(count: int, fraction: float) -> None:
    validation = split(asked(count), fraction)[1]
    meant = fraction * count
    assert abs(len(validation) - meant) == min(abs(number - meant) for number in range(1, count))


def test_questions_that_stand_several_times_are_counted_each_time() -> None:
    questions = [Question(f"{i}-{j}", f"What is {i}?", ("x",)) for i in range(10) for j in range(5)]
    train, validation = split(questions, 0.2)
    assert (len(train), len(validation)) == (40, 10)


def test_a_file_in_another_order_has_the_same_parts_and_one_that_grows_nearly_the_same() -> None:
    questions = asked(1000)
    before = {q.id for q in split(questions, 0.1)[1]}
    assert {q.id for q in split(questions[::-1], 0.1)[1]} == before
    grown = {q.id for q in split(asked(1100), 0.1)[1]} & {q.id for q in questions}
    assert grown <= before or before <= grown  # the border moved one way
    assert len(grown ^ before) < 20


def test_candidates_that_are_ids_are_written_as_ids(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"id": "q", "question": "who?", "answers": ["x"], "candidates": ["p1", "p2"]}) + "\n"
    )
    questions = load_questions(tmp_path / "a.jsonl")
    write_questions(tmp_path / "b.jsonl", questions)
    assert list(read_questions(tmp_path / "b.jsonl")) == questions
