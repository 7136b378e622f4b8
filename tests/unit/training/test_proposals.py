"""Proposals other than the selector: their probabilities by enumeration, and draws that follow them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from pydantic import ValidationError

from ragdro.algorithms import Dro, Marginal, Sft
from ragdro.config import EStep, Mixture
from ragdro.selection.list_selector import ListSelector
from ragdro.training.proposals import log_mixture, log_plackett_luce, plackett_luce, proposals
from ragdro.types import Draw, Task
from tests.worlds import pocket_rag, pocket_tasks

LISTS = list(permutations(range(5), 2))
RANKED, LEVEL = 0.7 ** np.arange(5.0), np.ones(5)


def test_plackett_luce_sums_to_one_and_is_what_is_drawn() -> None:
    expected = np.exp([log_plackett_luce(z, RANKED) for z in LISTS])
    assert expected.sum() == pytest.approx(1)
    assert expected[LISTS.index((0, 1))] == pytest.approx((1 / RANKED.sum()) * (0.7 / RANKED[1:].sum()))
    assert np.exp(log_plackett_luce((4, 2), LEVEL)) == pytest.approx(1 / 20)
    counts = Counter(plackett_luce(RANKED, u) for u in np.random.default_rng(0).random((5000, 2)))
    observed = np.array([counts[z] for z in LISTS])
    assert ((observed - 5000 * expected) ** 2 / (5000 * expected)).sum() < 43.8  # 19 degrees, 0.999 quantile


def many(selector: ListSelector, task: Task, mixture: Mixture) -> list[Draw]:
    """4,000 draws for one question, as 80 questions that are the same but for their random numbers."""
    copies = [Task(replace(task.question, id=f"copy {i}"), task.candidates) for i in range(80)]
    propose = proposals(Dro(), EStep(samples=50, mixture=mixture), 0, 1)
    return [draw for draws in propose(selector, copies) for draw in draws]


def test_a_mixtures_draws_carry_its_exact_probability_and_follow_it() -> None:
    mixture = Mixture(retriever=0.3, uniform=0.2, decay=0.7)
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    drawn = many(rag.selector, task, mixture)
    prior = np.exp(rag.selector.log_prob(task, LISTS, 10_000))
    ranked = np.exp([log_plackett_luce(z, RANKED) for z in LISTS])
    expected = 0.5 * prior + 0.3 * ranked + 0.2 / 20
    for draw in drawn[:50]:
        place = LISTS.index(draw.permutation)
        assert draw.log_proposal == pytest.approx(np.log(expected[place]), abs=1e-4)
        assert draw.log_prior == pytest.approx(np.log(prior[place]), abs=1e-4)
    counts = Counter(d.permutation for d in drawn)
    observed = np.array([counts[z] for z in LISTS])
    assert ((observed - 4000 * expected) ** 2 / (4000 * expected)).sum() < 43.8
    assert ((observed - 4000 * prior) ** 2 / (4000 * prior)).sum() > 100  # not simply the selector's


def test_a_mixture_over_lists_that_may_stop_early() -> None:
    mixture = Mixture(retriever=0.3, uniform=0.3, decay=0.7)
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    budget, template = rag.selector.budget, rag.selector.template
    chooser = ListSelector(rag.selector.model, template, k=2, n=5, budget=budget, stop=True)
    lists = [*((i,) for i in range(5)), *LISTS]
    drawn = many(chooser, task, mixture)
    prior = np.exp(chooser.log_prob(task, lists, 10_000))
    ranked = np.exp([log_plackett_luce(z, RANKED) for z in lists]) / 2
    level = np.array([1 / 5 if len(z) == 1 else 1 / 20 for z in lists]) / 2
    expected = 0.4 * prior + 0.3 * ranked + 0.3 * level
    assert expected.sum() == pytest.approx(1, abs=1e-5)
    for draw in drawn[:50]:
        assert draw.log_proposal == pytest.approx(np.log(expected[lists.index(draw.permutation)]), abs=1e-4)
    counts = Counter(d.permutation for d in drawn)
    observed = np.array([counts[z] for z in lists])
    assert ((observed - 4000 * expected) ** 2 / (4000 * expected)).sum() < 51.2  # 24 degrees, 0.999


def test_a_component_without_a_share_is_left_out() -> None:
    assert log_mixture((0, 1), -3.0, []) == pytest.approx(-3.0)
    rag, tasks = pocket_rag(k=2, n=5), pocket_tasks(2, 5)
    nothing = EStep(samples=5, mixture=Mixture(retriever=0.0, uniform=0.0))
    for draws in proposals(Dro(), nothing, 0, 1)(rag.selector, tasks):
        assert [d.log_proposal for d in draws] == pytest.approx([d.log_prior for d in draws])


def test_a_questions_draws_do_not_depend_on_its_neighbours() -> None:
    rag, tasks = pocket_rag(k=2, n=5), pocket_tasks(3, 5)
    propose = proposals(Dro(), EStep(samples=6, mixture=Mixture(retriever=0.4, uniform=0.4)), 0, 1)
    together, alone = propose(rag.selector, tasks), propose(rag.selector, tasks[2:])
    assert [d.permutation for d in together[2]] == [d.permutation for d in alone[0]]


@pytest.mark.parametrize("passages", [None, 3])
def test_marginal_takes_each_first_choice_once_the_likeliest_first(passages: int | None) -> None:
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    drawn = proposals(Marginal(passages=passages), EStep(), 0, 1)(rag.selector, [task])[0]
    prior = np.exp(rag.selector.log_prob(task, LISTS, 10_000))
    first = np.array([sum(p for z, p in zip(LISTS, prior, strict=True) if z[0] == k) for k in range(5)])
    assert [d.permutation[0] for d in drawn] == first.argsort()[::-1].tolist()[:passages]
    for draw in drawn:
        assert np.exp(draw.log_prior) == pytest.approx(first[draw.permutation[0]], abs=1e-5)
        assert np.exp(draw.log_proposal) == pytest.approx(1 / len(drawn))
    rag.selector.independent = True
    (selection,) = rag.selector.greedy([task], 9999)
    assert list(selection.permutation) == first.argsort()[::-1].tolist()[:2]
    assert selection.probabilities == pytest.approx(sorted(first, reverse=True)[:2], abs=1e-5)


def test_sft_reads_what_the_retriever_put_first() -> None:
    drawn = proposals(Sft(), EStep(), 0, 1)(pocket_rag(k=2, n=5).selector, pocket_tasks(2, 5))
    assert [[d.permutation for d in ds] for ds in drawn] == [[(0, 1)], [(0, 1)]]


@pytest.mark.parametrize(
    "wrong", [{"mixture": {"retriever": 0.5, "uniform": 0.5}}, {"mixture": {}, "temperature": 0.7}]
)
def test_a_mixture_that_cannot_be_corrected_for_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EStep.model_validate(wrong)
