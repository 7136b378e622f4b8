"""A run's questions are known by everything that it is made from, and by nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ragdro.runs import fingerprint
from ragdro.runs.fingerprint import began_on, fingerprint_of
from ragdro.types import Candidates, Passage, Question, Task

PASSAGES = tuple(Passage(f"p{i}", f"Firm {i}", f"Mara{i} works for Firm {i}.") for i in range(4))
GOLD = Passage("own-1", "Firm 1", "Mara1 works for Firm 1.", gold=True)
QUESTION = Question("q1", "Where does Mara1 work?", ("Firm 1",), passages=(GOLD,), hops=1)
TASK = Task(QUESTION, Candidates("q1", PASSAGES[:3], (3.0, 2.0, 1.0)))
OTHER = Task(replace(QUESTION, id="q2", passages=()), Candidates("q2", PASSAGES[1:]))


def asked(**changes: Any) -> Task:
    return replace(TASK, question=replace(QUESTION, **changes))


def task_with(*passages: Passage) -> Task:
    return replace(TASK, candidates=replace(TASK.candidates, passages=passages))


@pytest.mark.parametrize(
    "edited",
    [
        *(asked(id="q3"), asked(question="Where did Mara1 work?"), asked(answers=("Firm 1", "Firm one"))),
        *(asked(hops=2), asked(hops=None), asked(ranking=("p1",)), asked(queries=("Firm 1",))),
        *(asked(standalone="Where?"), asked(passages=()), asked(passages=(replace(GOLD, gold=False),))),
        *(asked(passages=(replace(GOLD, text="Mara1 works."),)), asked(passages=(GOLD, GOLD))),
        *(task_with(*PASSAGES[:2]), task_with(*PASSAGES), task_with(*reversed(PASSAGES[:3]))),
        *(task_with(*PASSAGES[:2], replace(PASSAGES[2], **{key: "new"})) for key in ("id", "title", "text")),
        task_with(*PASSAGES[:2], replace(PASSAGES[2], id="p", title="2Firm 2")),
    ],
)
def test_all_that_a_run_is_made_from_counts(edited: Task) -> None:
    assert fingerprint_of([edited, OTHER], [TASK], []) != fingerprint_of([TASK, OTHER], [TASK], [])


def test_splits_and_their_order_count() -> None:
    splits: list[tuple[list[Task], ...]] = [
        *(([TASK, OTHER], [], []), ([TASK], [OTHER], []), ([TASK], [], [OTHER]), ([OTHER, TASK], [], [])),
    ]
    assert len({fingerprint_of(*one) for one in splits}) == len(splits)
    assert fingerprint_of([TASK], [OTHER], None) == fingerprint_of([TASK], [OTHER], [])


def test_scores_and_passages_that_nothing_reads_do_not_count() -> None:
    unread = (GOLD, Passage("own-2", "Firm 2", "Mara2.", gold=False))
    scored = replace(TASK, candidates=replace(TASK.candidates, scores=None))
    assert fingerprint_of([asked(passages=unread)]) == fingerprint_of([scored]) == fingerprint_of([TASK])


def test_a_passage_of_many_questions_is_read_once_and_equal_ones_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    digest: Callable[[Passage], bytes] = fingerprint._digest

    def counted(passage: Passage) -> bytes:
        read.append(passage.id)
        return digest(passage)

    monkeypatch.setattr(fingerprint, "_digest", counted)
    shared = fingerprint_of([TASK, TASK, OTHER], [TASK])
    assert sorted(read) == ["own-1", "p0", "p1", "p2", "p3"]
    copied = task_with(*(replace(passage) for passage in PASSAGES[:3]))
    assert fingerprint_of([TASK, copied, OTHER], [copied]) == shared


def test_a_run_that_noted_ids_alone_is_known_by_them() -> None:
    """As State.questions was before texts were part of it."""
    line = json.dumps(["q1", "Where does Mara1 work?", ["p0", "p1", "p2"]]).encode()
    noted = hashlib.sha256(line + b"\n" + b"\n" + b"\n").hexdigest()
    assert began_on(noted, [TASK], [], None) and began_on(noted, [asked(answers=("Firm one",))], [], [])
    assert not began_on(noted, [TASK], [TASK], None)
    assert not began_on(noted, [task_with(*PASSAGES)], [], None)
    assert began_on(fingerprint_of([TASK], [], None), [TASK], [], None)
    assert not began_on(fingerprint_of([TASK], [], None), [asked(answers=("Firm one",))], [], None)
