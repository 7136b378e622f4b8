"""Answers from several lists that complete one another, against enumeration of all lists in float64."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ragdro.config.answering import Answering
from ragdro.selection.lists import WeightedList, WeightedLists
from ragdro.selection.selector import Selector
from ragdro.selection.union import union_of
from ragdro.system import Rag, reading
from ragdro.types import Task
from tests.invariant.test_enumeration import textbook
from tests.invariant.test_marginal_answers import LISTS, TEXTS, TOKENS, tasks_of
from tests.invariant.test_marginal_answers import world as surer_world


@cache
def world() -> tuple[Rag, list[Task]]:
    """The embedded model in both roles, the selector hardly sure of anything: its greedy list is one of many
    that are nearly as probable."""
    selector = Selector.from_pretrained("tiny:base", k=2, n=5, prompt="tiny-selector", device="cpu")
    with torch.no_grad():
        selector.model.hf.model.norm.weight.mul_(0.05)
    return Rag(selector, surer_world()[0].generator), tasks_of(TEXTS)


@cache
def enumerated(at: int) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """log p(z|x) of every list, log p(y|x,d_z) of its greedy answer, and that answer."""
    rag, tasks = world()
    answers = rag.generator.answer_many([reading(tasks[at], z) for z in LISTS], TOKENS)
    selector, generator = rag.selector.model.hf.double(), rag.generator.model.hf.double()
    written = [rag.selector.scored(tasks[at], z) for z in LISTS]
    read = [rag.generator.scored(reading(tasks[at], z), a) for z, a in zip(LISTS, answers, strict=True)]
    with torch.no_grad():
        prior = np.array([float(textbook(selector, s)) for s in written])
        likelihood = np.array([float(textbook(generator, s)) for s in read])
    rag.selector.model.hf.float(), rag.generator.model.hf.float()
    return prior, likelihood, answers


@pytest.mark.parametrize("at", range(3))
def test_a_union_has_most_in_common_with_the_selectors_lists(at: int) -> None:
    """Of all ten pairs of passages: the mean over z ~ p(z|x) of what a pair shares with z."""
    rag, tasks = world()
    prior = np.exp(enumerated(at)[0])
    shared = {
        pair: float(sum(p * len(set(pair) & set(z)) for p, z in zip(prior, LISTS, strict=True)))
        for pair in combinations(range(5), 2)
    }
    (found,) = rag.predict([tasks[at]], answering=Answering(kind="union", samples=20))
    z, probabilities = found.selection.permutation, found.selection.probabilities
    assert tuple(sorted(z)) == max(shared, key=lambda pair: shared[pair])
    assert probabilities is not None and list(probabilities) == sorted(probabilities, reverse=True)
    assert found.selection.probability_of == "inclusion"
    for passage, p in zip(z, probabilities, strict=True):
        assert p == pytest.approx(sum(prior[i] for i, one in enumerate(LISTS) if passage in one), abs=1e-4)
    assert found.answer == rag.generator.answer_many([reading(tasks[at], z)], TOKENS)[0]


@pytest.mark.parametrize("at", range(3))
def test_a_joint_answer_is_the_likeliest_pair_of_a_list_and_its_answer(at: int) -> None:
    rag, tasks = world()
    prior, likelihood, answers = enumerated(at)
    best = int(np.argmax(prior + likelihood))
    (found,) = rag.predict([tasks[at]], answering=Answering(kind="joint", samples=20))
    assert found.selection.permutation == LISTS[best] and found.answer == answers[best]
    assert found.distribution is None and found.selection.probabilities is not None
    log_p = float(np.log(found.selection.probabilities).sum())
    assert log_p == pytest.approx(float(prior[best]), abs=1e-3)


def test_a_joint_answer_is_not_the_greedy_lists_everywhere() -> None:
    rag, tasks = world()
    greedy = [one.selection.permutation for one in rag.predict(tasks)]
    joint = rag.predict(tasks, answering=Answering(kind="joint", samples=20))
    assert any(set(a) != set(b.selection.permutation) for a, b in zip(greedy, joint, strict=True))


def test_a_union_joins_passages_that_no_list_has_together() -> None:
    """By hand: passages 0 to 4 are in a list with probability 0.4, 0.4, 0.3, 0.6, 0.3."""
    listed = {(0, 1): 0.4, (2, 3): 0.3, (3, 4): 0.3}
    lists = tuple(WeightedList(z, p, float(np.log(p))) for z, p in listed.items())
    found = union_of(WeightedLists(lists, 8, exact=False), [7, 5, 9, 3, 1], 2)
    assert found.permutation == (3, 7) and found.probabilities == pytest.approx((0.6, 0.4))
    whole = union_of(WeightedLists(lists[:1], 8, exact=False), [7, 5, 9, 3, 1], 4)
    assert whole.permutation == (7, 5)  # a passage that is in none of the lists is not read


def test_drawn_lists_come_to_the_same_union() -> None:
    rag, tasks = world()
    for at in range(3):
        (drawn,) = rag.predict([tasks[at]], answering=Answering(kind="union", samples=19))
        (exact,) = rag.predict([tasks[at]], answering=Answering(kind="union", samples=20))
        alone = rag.predict(tasks, answering=Answering(kind="union", samples=19))[at]
        z = drawn.selection.permutation
        assert (z, drawn.answer) == (alone.selection.permutation, alone.answer)  # whatever stands beside it
        assert len(z) == len(exact.selection.permutation) == 2
        inclusion = Counter[int]()
        for p, possible in zip(np.exp(enumerated(at)[0]), LISTS, strict=True):
            inclusion.update(dict.fromkeys(possible, float(p)))  # type: ignore[arg-type]
        assert drawn.selection.probabilities is not None
        for passage, p in zip(z, drawn.selection.probabilities, strict=True):
            assert p == pytest.approx(inclusion[passage], abs=0.3)


def test_of_more_candidates_the_last_round_is_united() -> None:
    rag = world()[0]
    tasks = tasks_of([*TEXTS, *(f"Name{i} sings at Sivel" for i in range(7))])
    for kind in ("union", "joint"):
        found = rag.predict(tasks, answering=Answering(kind=kind, samples=8))  # type: ignore[arg-type]
        for one in found:
            assert len(set(one.selection.permutation)) == 2 and max(one.selection.permutation) < 12


def test_without_a_selector_the_retrievers_first_are_read() -> None:
    rag, tasks = world()
    for kind in ("union", "joint"):
        (found,) = rag.predict(tasks[:1], select=False, answering=Answering(kind=kind))  # type: ignore[arg-type]
        assert found.selection.permutation == (0, 1) and found.selection.probabilities is None
