"""What a teacher's path teaches: its lists, and its queries where the data has them or titles say them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

from ragdro.config import WarmUp
from ragdro.config.retrieval import Retrieval
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.training.lessons import Lesson, lessons
from ragdro.training.tasks import tasks_of
from ragdro.types import ENOUGH, Question
from tests.paths import far_passages, far_questions, pocket_rewriter
from tests.worlds import pocket_rag

RETRIEVER = retriever_over(far_passages(6))


def taught(
    question: Question, rounds: int = 3, *, stop: bool = True, first: bool = False, most: int = 60
) -> Lesson:
    rag, rewriter = pocket_rag(k=1, n=4), pocket_rewriter()
    rewriter.query_tokens = most
    retrieval = Retrieval(rounds=rounds, stop=stop, rewrite_first=first)
    asking = Asking(rewriter, as_find(RETRIEVER), retrieval, rag.selector)
    tasks = tasks_of([question], lambda questions: list(RETRIEVER.search(questions, 4)), 4)
    (lesson,) = lessons(rag.selector, tasks, WarmUp(teacher="gold"), {}, asking)
    return lesson


def queries(lesson: Lesson) -> list[str]:
    decode = pocket_rewriter().model.tokenizer.decode
    return [decode(list(query.tokens)) for query in lesson.queries]


def read(lesson: Lesson) -> list[str]:
    return [lesson.task.candidates.passages[i].id for i in lesson.permutation]


@pytest.mark.parametrize("given", [True, False])
def test_the_datas_queries_or_the_titles_of_what_is_missing(given: bool) -> None:
    question = far_questions(1)[0]
    lesson = taught(question if given else replace(question, queries=None))
    assert queries(lesson) == ["Firm0", ENOUGH] and read(lesson) == ["person-0", "firm-0"]
    assert [[p.id for p in query.reading.passages] for query in lesson.queries] == [
        ["person-0"],
        ["person-0", "firm-0"],
    ]
    assert [[p.id for p in one.task.read] for one in lesson.lists] == [[], ["person-0"]]
    assert "person-0" not in [p.id for p in lesson.lists[1].task.candidates.passages]


def test_one_retrieval_that_is_enough_teaches_to_stop_where_there_is_a_way_to() -> None:
    question = far_questions(3)[2]
    assert queries(taught(question)) == [ENOUGH]
    alone = taught(question, stop=False)
    assert queries(alone) == [] and read(alone) == ["firm-2"]


def test_the_last_round_is_followed_by_nothing() -> None:
    assert queries(taught(far_questions(1)[0], rounds=2)) == ["Firm0"]


DIALOGUE = "Who do you know?\nI know Mara0 a bit.\nWhich town has she?"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "Which town has Mara0?"),  # a question stands alone
        ({"question": DIALOGUE}, "Which town has she? Mara0"),  # the title of the gold passage
        ({"question": f"{DIALOGUE} I mean Mara0."}, "Which town has she? I mean Mara0."),
        ({"question": DIALOGUE, "passages": ()}, "Which town has she?"),
        ({"question": DIALOGUE, "standalone": "Where works Mara0?"}, "Where works Mara0?"),
    ],
)
def test_a_first_query_stands_alone(changes: dict[str, Any], expected: str) -> None:
    question = replace(far_questions(1)[0], **changes)
    lesson = taught(question, first=True)
    assert queries(lesson)[0] == expected and lesson.queries[0].reading.passages == ()
    expected_ids = [p.id for p in RETRIEVER.find([expected], 4)[0].passages]
    assert [p.id for p in lesson.task.candidates.passages][: len(expected_ids)] == expected_ids
    if question.gold_passages and "Mara0" in expected:
        assert read(lesson)[0] == "person-0" and queries(lesson)[1] == "Firm0"


def test_one_search_with_a_written_query() -> None:
    question = replace(far_questions(1)[0], question=DIALOGUE)
    lesson = taught(question, rounds=1, stop=False, first=True)
    assert queries(lesson) == ["Which town has she? Mara0"] and read(lesson) == ["person-0"]


def test_queries_that_are_cut_are_said() -> None:
    """The question has more tokens than the title of what is to be found next, which is taught whole."""
    question = far_questions(1)[0]
    tokens = [len(one.tokens) for one in taught(question, first=True).queries]
    assert len(tokens) == 3 and tokens[0] > max(tokens[1:])
    with pytest.warns(RuntimeWarning, match=r"rewriter.query_tokens = \d+: 1 of 3 queries") as warned:
        taught(question, first=True, most=tokens[0] - 1)
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        taught(question, first=True, most=tokens[0])


def test_of_a_query_that_is_cut_what_is_left_is_searched_for() -> None:
    question = replace(far_questions(1)[0], standalone="Mara1 Mara0")
    whole = taught(question, rounds=1, stop=False, first=True)
    assert {"person-0", "person-1"} <= {p.id for p in whole.task.candidates.passages}
    with pytest.warns(RuntimeWarning, match="1 of 1 query"):
        cut = taught(question, rounds=1, stop=False, first=True, most=3)
    assert cut.path is not None and [cut.path.rounds[0].query] == queries(cut) != ["Mara1 Mara0"]
    assert [p.id for p in cut.task.candidates.passages] == ["person-1"]
