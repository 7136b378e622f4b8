"""Labels for a retriever, against numbers worked by hand and against the posterior over all lists."""

from __future__ import annotations

import math
from itertools import permutations

import pytest

from ragdro.training.relevance import distant_labels, gold_labels, posterior_labels
from ragdro.types import Candidates, Passage, Question, Task, WeightedSample, WeightedTask

PASSAGES = tuple(
    Passage(f"p{i}", f"T{i}", text)
    for i, text in enumerate(("Ada was born in Rome.", "Bob came from Oslo.", "Rome is old.", "It rained."))
)


def task(*gold: Passage) -> Task:
    passages = tuple(Passage("own", p.title, p.text, gold=True) for p in gold)
    return Task(Question("q", "Where?", ("Rome",), passages), Candidates("q", PASSAGES))


def sample(z: tuple[int, ...], count: int, q: float, prior: float, likelihood: float) -> WeightedSample:
    return WeightedSample(z, count, math.log(q), math.log(prior), math.log(likelihood), weight=math.nan)


def weighted(samples: tuple[WeightedSample, ...], *, impossible: bool = False) -> WeightedTask:
    return WeightedTask(task(), samples, 0.0, 1.0, impossible)


def test_the_posterior_of_a_passage_is_the_weight_of_the_lists_that_read_it() -> None:
    samples = (sample((0, 2), 2, 0.5, 0.5, 0.3), sample((2, 1), 1, 0.25, 0.5, 0.2))
    # weights before they are normalised: 2 · 0.3 · 0.5 / 0.5 = 0.6 and 1 · 0.2 · 0.5 / 0.25 = 0.4
    (labels,) = posterior_labels([weighted(samples)])
    assert labels.passages == PASSAGES
    assert labels.values == pytest.approx((0.6, 0.4, 1.0, 0.0))


def test_with_every_list_drawn_it_is_the_posterior_by_enumeration() -> None:
    lists = list(permutations(range(4), 2))
    prior = [(i + 1) / 78 for i in range(12)]
    likelihood = [0.9 if 0 in z and 2 in z else 0.1 for z in lists]
    drawn = tuple(sample(z, 1, 1 / 12, p, y) for z, p, y in zip(lists, prior, likelihood, strict=True))
    (labels,) = posterior_labels([weighted(drawn)])
    evidence = sum(p * y for p, y in zip(prior, likelihood, strict=True))
    for d, value in enumerate(labels.values):
        joint = sum(p * y for z, p, y in zip(lists, prior, likelihood, strict=True) if d in z)
        assert value == pytest.approx(joint / evidence)


def test_an_answer_that_is_impossible_says_nothing() -> None:
    lost = WeightedSample((0, 1), 1, -1.0, -1.0, -math.inf, 1.0)
    assert posterior_labels([weighted((lost,), impossible=True)]) == []


def test_gold_passages_that_the_retriever_missed_are_there() -> None:
    missed = Passage("x", "Far away", "The answer.")
    (labels,) = gold_labels([task(PASSAGES[1], missed), task()])
    assert [p.content for p in labels.passages] == [*(p.content for p in PASSAGES), missed.content]
    assert labels.values == (0.0, 1.0, 0.0, 0.0, 1.0)


def test_distant_labels_are_where_an_answer_stands() -> None:
    (labels,) = distant_labels([task()])
    assert labels.values == (1.0, 0.0, 1.0, 0.0)
    nowhere = Task(Question("n", "Where?", ("Bergen",)), Candidates("n", PASSAGES))
    assert distant_labels([nowhere]) == []
