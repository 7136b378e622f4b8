"""Probes of a pocket-sized system: what is read instead, and the means, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ragdro.generation.reading import Reading
from ragdro.training.limits import cut_fractions
from ragdro.training.probes import PROBES, probe, summary
from ragdro.types import Passage, Prediction, Selection
from tests.worlds import pocket_rag, pocket_tasks


def read(name: str, prediction: Prediction, seed: int = 0) -> list[str] | None:
    permutation = prediction.selection.permutation
    passages = PROBES[name](prediction, permutation, np.random.default_rng(seed))
    return None if passages is None else [passage.id for passage in passages]


def test_what_is_read_instead() -> None:
    (task,) = pocket_tasks(1, 5)  # gold: 2 and 3
    prediction = Prediction(task, Selection((3, 0), (0.5, 0.5)), "x")
    assert read("closed_book", prediction) == [] and read("reversed_order", prediction) == ["0-0", "0-3"]
    assert len(read("gold_alone", prediction) or ()) == 2
    added = [set(read("one_wrong_passage", prediction, seed) or ()) - {"0-3", "0-0"} for seed in range(20)]
    assert set.union(*added) == {"0-1", "0-4"} and all(len(one) == 1 for one in added)
    places = {(read("one_wrong_passage", prediction, seed) or []).index("0-3") for seed in range(20)}
    assert places == {0, 1}  # in front of it, between, or behind
    whole = Prediction(task, Selection((3, 0, 1, 4), (0.5,) * 4), "x")
    assert read("one_wrong_passage", whole) is None  # what is left is gold
    alone = Prediction(task, Selection((3,), (0.5,)), "x")
    assert read("reversed_order", alone) is None
    unlabelled = replace(task, question=replace(task.question, passages=()))
    assert read("gold_alone", Prediction(unlabelled, Selection((3,), None), "x")) is None


def test_a_passage_that_holds_an_answer_is_no_noise() -> None:
    (task,) = pocket_tasks(1, 5)
    passages = (*task.candidates.passages[:2], Passage("held", "", "All of Freedonia"))
    held = replace(task, candidates=replace(task.candidates, passages=passages))
    assert read("one_wrong_passage", Prediction(held, Selection((0, 1), None), "x")) is None


def test_every_reading_is_answered_once_and_counted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rag, tasks = pocket_rag(), pocket_tasks(2, 5)
    predictions = [
        Prediction(tasks[0], Selection((3, 0), (0.5, 0.5)), "Freedonia"),
        Prediction(tasks[1], Selection((3,), (0.5,)), "nowhere"),
    ]
    asked: list[Reading] = []

    def answer_many(readings: list[Reading], max_tokens: int) -> list[str]:
        asked.extend(readings)
        return [r.question.answers[0] if len(r.passages) == 2 else "Freedonia" for r in readings]

    monkeypatch.setattr(rag.generator, "answer_many", answer_many)
    means = summary(probe(rag, predictions, 0))
    assert len(asked) == 7  # four probes, of which one does not apply to the second question
    assert means["closed_book"] == {
        "questions": 2, "as_read": 0.5, "exact_match": 0.5, "spoilt": 0.0, "put_right": 0.0,
        "same_answer": 0.5,
    }  # fmt: skip
    assert means["reversed_order"]["questions"] == 1 and means["reversed_order"]["same_answer"] == 1
    assert means["gold_alone"]["put_right"] == 0.5 and means["gold_alone"]["exact_match"] == 1
    assert means["one_wrong_passage"]["put_right"] == 0.5
    assert summary([])["closed_book"]["exact_match"] is None


def test_a_real_generator_gives_the_same_answer_to_the_same_reading() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(3, 5)
    predictions = rag.predict(tasks)
    records: list[dict[str, Any]] = probe(rag, predictions, 0)
    assert [r["id"] for r in records] == ["q0", "q1", "q2"]
    again = [
        Prediction(p.task, Selection(p.selection.permutation[::-1], None), p.answer) for p in predictions
    ]
    for first, turned in zip(records, probe(rag, again, 0), strict=True):
        assert turned["reversed_order"]["same"] == 1.0  # turned twice
        assert first["closed_book"]["answer"] == turned["closed_book"]["answer"]


def test_what_the_limits_cut_is_counted_and_leaves_the_counts_alone() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(4, 5)
    long = replace(tasks[0].candidates.passages[0], text="Mara works for Firm. " * 40)
    passages = (long, *tasks[0].candidates.passages[1:])
    tasks[0] = replace(tasks[0], candidates=replace(tasks[0].candidates, passages=passages))
    usual = cut_fractions(rag, tasks[1:])["selector.passage_tokens"]
    counted = rag.selector.template.counts.passages
    assert cut_fractions(rag, tasks[:1])["selector.passage_tokens"] >= usual + 0.2 - 1e-9 or usual == 1
    assert rag.selector.template.counts.passages == counted
    assert set(cut_fractions(rag, tasks)) == {
        f"{role}.{name}_tokens" for role in ("selector", "generator") for name in ("question", "passage")
    } | {"generator.answer_tokens"}
