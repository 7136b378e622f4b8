"""Questions with fewer than K candidates: all of them are ordered, and a single one is a certain list."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ragdro.algorithms import Dro, Sft
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import EStep, Mixture, Optimisation
from ragdro.errors import RetrievalError
from ragdro.evaluation.evaluate import evaluate
from ragdro.lm.scoring import score_all, sequence_log_probs
from ragdro.selection.list_selector import ListSelector
from ragdro.system import Rag
from ragdro.training.e_step import e_step
from ragdro.training.m_step import fit
from ragdro.training.proposals import log_plackett_luce, proposals
from ragdro.training.teachers import teacher_permutation
from ragdro.types import Candidates, Task
from tests.worlds import pocket_rag, pocket_tasks


def few(count: int, number: int = 0) -> Task:
    """Question `number` with the first `count` of its candidates."""
    task = pocket_tasks(number + 1, 5)[number]
    return Task(task.question, Candidates(task.question.id, task.candidates.passages[:count]))


def stopping(rag: Rag) -> ListSelector:
    chooser = rag.selector
    return ListSelector(chooser.model, chooser.template, k=4, n=5, budget=chooser.budget, stop=True)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_there_are_is_ordered_and_the_lists_sum_to_one(count: int, stop: bool) -> None:
    rag = pocket_rag(k=4)
    chooser = stopping(rag) if stop else rag.selector
    lists = [z for n in range(1 if stop else count, count + 1) for z in permutations(range(count), n)]
    log_p = chooser.log_prob(few(count), lists, 9999)
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
    uniforms = np.random.default_rng(0).random((6, chooser.choices_per_list))
    ((selection, draws),) = chooser.select_and_sample([few(count)], [uniforms], 9999)
    assert selection.permutation in lists and selection.most == 4
    for draw in draws:
        expected = log_p[lists.index(draw.permutation)]
        assert draw.log_prior == pytest.approx(expected, abs=1e-4)
        assert draw.log_proposal == pytest.approx(expected, abs=1e-4)
    (first,) = chooser.first_choices([few(count)], 9999)
    assert np.exp(first).sum() == pytest.approx(1, abs=1e-6)
    by_hand = [sum(np.exp(p) for z, p in zip(lists, log_p, strict=True) if z[0] == i) for i in range(count)]
    assert np.exp(first) == pytest.approx(by_hand, abs=1e-5)
    if count == 1:
        assert log_p == [0.0] and selection.permutation == (0,) and selection.probabilities == (1.0,)


def test_no_candidates_are_refused_by_the_questions_name() -> None:
    with pytest.raises(RetrievalError, match=r"^question 'q0' has no candidates to select from$"):
        pocket_rag().selector.prompt(few(0))


@pytest.mark.parametrize("shared", [True, False, None])
def test_a_certain_list_has_log_probability_0_and_gradient_0(shared: bool | None) -> None:
    """Alone in a batch, and beside lists that have something to say, however they are computed."""
    selector = pocket_rag(k=3).selector
    selector.model.shares_prefixes = shared
    certain, plain = selector.group(few(1), [(0,)]), selector.group(few(3, 1), [(0, 2, 1), (2, 1, 0)])
    (value,) = sequence_log_probs(selector.model, [certain])
    assert value.tolist() == [0.0]
    value.sum().backward()
    gradients = [p.grad for p in selector.model.hf.parameters() if p.grad is not None]
    assert gradients and not any(g.any() for g in gradients)
    alone = score_all(selector.model, [plain], 9999)
    assert score_all(selector.model, [certain, plain], 9999) == [[0.0], pytest.approx(alone[0], abs=1e-5)]
    assert selector.model.shares_prefixes is (shared is not False)  # nothing was found unequal


def test_an_iteration_over_questions_with_one_three_and_five_candidates() -> None:
    rag = pocket_rag(k=4)
    tasks = [few(1), few(3, 1), few(5, 2)]
    weighted = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=proposals(Dro(), EStep(samples=6), 0, 1),
        max_tokens=4096,
    )
    assert [len(w.samples[0].permutation) for w in weighted] == [1, 3, 4]
    (certain,) = weighted[0].samples
    assert (certain.count, certain.weight, certain.log_prior) == (6, pytest.approx(1), 0.0)
    assert weighted[0].bound == pytest.approx(certain.log_likelihood)

    def build(i: int) -> TrainingExample:
        return Dro().selector_example(rag.selector, weighted[i])

    before = [sum(s.weight * s.log_prior for s in w.samples) for w in weighted]
    settings = Optimisation(learning_rate=1e-3, batch_size=1, epochs=4)
    fit(rag.selector.model, 3, build, settings, np.random.default_rng(0))
    now = score_all(rag.selector.model, [build(i).group for i in range(3)], 9999)
    after = [float(np.dot(build(i).weights, now[i])) for i in range(3)]
    assert after[0] == 0.0 and after[1] > before[1] and after[2] > before[2]


@pytest.mark.parametrize("select", [True, False])
def test_what_fewer_candidates_give_is_evaluated_at_every_cut(select: bool) -> None:
    rag = pocket_rag(k=5)
    for count, prediction in zip((1, 3), rag.predict([few(1), few(3, 1)], select=select), strict=True):
        assert sorted(prediction.selection.permutation) == list(range(count))
        assert evaluate(prediction)["recall_at_5"] in (0.0, 1.0)


def test_the_retrievers_first_and_a_teachers_are_as_many_as_there_are() -> None:
    rag = pocket_rag(k=4)
    drawn = proposals(Sft(), EStep(), 0, 1)(rag.selector, [few(2), few(1), few(5)])
    assert [draws[0].permutation for draws in drawn] == [(0, 1), (0,), (0, 1, 2, 3)]
    assert teacher_permutation(few(1), 4) == (0,) and len(teacher_permutation(few(3), 4)) == 3


@pytest.mark.parametrize("stop", [False, True])
def test_a_mixtures_draws_of_fewer_candidates_carry_its_exact_probability(stop: bool) -> None:
    mixture = Mixture(retriever=0.3, uniform=0.3, decay=0.7)
    rag = pocket_rag(k=4)
    chooser = stopping(rag) if stop else rag.selector
    lists = [z for n in range(1 if stop else 3, 4) for z in permutations(range(3), n)]
    (drawn,) = proposals(Dro(), EStep(samples=300, mixture=mixture), 0, 1)(chooser, [few(3)])
    prior = np.exp(chooser.log_prob(few(3), lists, 9999))
    lengths = 3 if stop else 1
    ranked, level = (
        np.exp([log_plackett_luce(z, weights) for z in lists]) / lengths
        for weights in (0.7 ** np.arange(3.0), np.ones(3))
    )
    q = 0.4 * prior + 0.3 * ranked + 0.3 * level
    assert q.sum() == pytest.approx(1, abs=1e-5) and {d.permutation for d in drawn} == set(lists)
    for draw in drawn:
        assert draw.log_proposal == pytest.approx(np.log(q[lists.index(draw.permutation)]), abs=1e-4)
    (certain,) = proposals(Dro(), EStep(samples=3, mixture=mixture), 0, 1)(chooser, [few(1)])
    assert [d.log_proposal for d in certain] == pytest.approx([0.0] * 3, abs=1e-12)
    assert {(d.permutation, d.log_prior) for d in certain} == {((0,), 0.0)}
