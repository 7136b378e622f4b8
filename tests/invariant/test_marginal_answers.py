"""Marginal answers against full enumeration in float64: all lists, all answers that compete, plain passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch

from ragdro.config.answering import Answering, as_answering
from ragdro.errors import ConfigError
from ragdro.evaluation.marginal import ranked_answers
from ragdro.evaluation.metrics import normalise
from ragdro.generation.generator import Generator
from ragdro.prompts import load_template
from ragdro.selection.list_selector import ListSelector
from ragdro.selection.lists import weighted_lists
from ragdro.selection.pointer import PointerSelector
from ragdro.selection.selector import Selector
from ragdro.system import Rag, reading
from ragdro.types import Candidates, Passage, Prediction, Question, Task
from tests.invariant.test_enumeration import textbook

TOKENS = 10_000
LISTS = list(permutations(range(5), 2))
MARGINAL = Answering(kind="marginal", samples=8)
EXACT = Answering(kind="marginal", samples=20)


TEXTS = (
    "Risor shows a mule upon its painting",
    "Vufan sings at Sivel",
    "Kepin shows a lobster upon its sculpture",
    "Desus pays at Kepin",
    "Risor shows a lobster upon its sculpture",
)
ASKED = (
    "What animal is on the sculpture of the shop where Desus pays?",
    "What animal is on the painting of Risor?",
    "What animal is on the sculpture of Kepin?",
)


@cache
def world() -> tuple[Rag, list[Task]]:
    """The embedded model in both roles, the selector less sure of itself, so that many lists are probable."""
    selector = Selector.from_pretrained("tiny:base", k=2, n=5, prompt="tiny-selector", device="cpu")
    generator = Generator.from_pretrained("tiny:base", prompt="tiny-generator", answer_tokens=6, device="cpu")
    with torch.no_grad():
        selector.model.hf.model.norm.weight.mul_(0.2)
    return Rag(selector, generator), tasks_of(TEXTS)


def tasks_of(texts: Sequence[str]) -> list[Task]:
    passages = tuple(Passage(str(i), "", text) for i, text in enumerate(texts))
    questions = [Question(f"q{i}", asked, ()) for i, asked in enumerate(ASKED)]
    return [Task(question, Candidates(question.id, passages)) for question in questions]


@cache
def truth(at: int) -> dict[str, float]:
    """sum_z p(z|x) p(y|x,d_z) of every list's greedy answer, as the metric sees it."""
    rag, tasks = world()
    task = tasks[at]
    answers = dict.fromkeys(rag.generator.answer_many([reading(task, z) for z in LISTS], TOKENS))
    selector, generator = rag.selector.model.hf.double(), rag.generator.model.hf.double()
    prior = torch.stack([textbook(selector, rag.selector.scored(task, z)) for z in LISTS]).detach().exp()
    assert float(prior.sum()) == pytest.approx(1, abs=1e-9) and float(prior.max()) > 0.1
    total: dict[str, float] = {}
    for answer in answers:
        sequences = [rag.generator.scored(reading(task, z), answer) for z in LISTS]
        likelihood = torch.stack([textbook(generator, s) for s in sequences]).detach().exp()
        name = normalise(answer)
        total[name] = total.get(name, 0.0) + float(prior @ likelihood)
    rag.selector.model.hf.float(), rag.generator.model.hf.float()
    assert sum(total.values()) < 1
    return total


def as_dict(prediction: Prediction) -> dict[str, float]:
    assert prediction.distribution is not None
    return {normalise(a.answer): a.probability for a in prediction.distribution.answers}


def test_few_lists_are_summed_over_exactly() -> None:
    rag, tasks = world()
    for at, prediction in enumerate(rag.predict(tasks[:2], answering=EXACT)):
        found = prediction.distribution
        assert found is not None and found.exact and found.lists == len(LISTS)
        assert as_dict(prediction) == pytest.approx(truth(at), rel=1e-3, abs=1e-7)
        best = max(truth(at), key=lambda name: truth(at)[name])
        assert normalise(prediction.answer) == best and len(truth(at)) > 1
        assert sum(a.agreement for a in found.answers) == pytest.approx(1, abs=1e-6)


def test_drawn_lists_converge_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.selection.lists._few_lists", lambda *of: None)
    rag, tasks = world()
    many = Answering(kind="marginal", samples=400)
    errors = {8: 0.0, 400: 0.0}
    for how in (MARGINAL, many):
        for at, prediction in enumerate(rag.predict(tasks[:1], answering=how)):
            found = prediction.distribution
            assert found is not None and not found.exact and found.lists == how.samples
            differences = [abs(p - truth(at)[name]) for name, p in as_dict(prediction).items()]
            errors[how.samples] += max(differences)
            if how is many:
                assert normalise(prediction.answer) == max(truth(at), key=lambda name: truth(at)[name])
    assert errors[400] < 0.015 < errors[8]


def test_weights_estimate_a_sum_over_all_lists_without_bias() -> None:
    rag, (task, *_) = world()
    p = dict(zip(LISTS, np.exp(rag.selector.log_prob(task, LISTS, TOKENS)), strict=True))
    (greedy,) = rag.select([task])
    values = {z: float((3 * z[0] + 5 * z[1]) % 7) for z in LISTS}
    exact = sum(p[z] * values[z] for z in LISTS)
    estimates = []
    for seed in range(60):
        (found,) = weighted_lists(rag.selector, [task], 6, seed, TOKENS)
        first, *others = found.lists
        assert first.permutation == greedy.permutation and not found.exact and found.count == 6
        assert sum(z.weight for z in found.lists) == pytest.approx(1)
        assert [np.exp(z.log_prior) for z in found.lists] == pytest.approx(
            [p[z.permutation] for z in found.lists], rel=1e-5
        )  # float32, computed in other company
        assert first.weight == pytest.approx(p[greedy.permutation] if others else 1)
        estimates.append(sum(z.weight * values[z.permutation] for z in found.lists))
    error, most = float(np.std(estimates)) / len(estimates) ** 0.5, p[greedy.permutation]
    nothing_else = most**6 * (1 - most) * 7
    assert 0.01 < error < 0.3
    assert abs(float(np.mean(estimates)) - exact) < 3 * error + nothing_else


def test_what_stands_beside_a_question_changes_nothing() -> None:
    rag, tasks = world()
    together = rag.predict(tasks, answering=MARGINAL)
    for task, one in zip(tasks, together, strict=True):
        (alone,) = rag.predict([task], answering=MARGINAL)
        assert alone.answer == one.answer and alone.selection.permutation == one.selection.permutation
        assert as_dict(alone) == pytest.approx(as_dict(one), abs=1e-4)
    other = rag.predict(tasks, answering=Answering(kind="marginal", samples=8, seed=1))
    assert [as_dict(p) for p in other] != [as_dict(p) for p in together]


def test_the_list_shown_supports_the_answer_most() -> None:
    rag, tasks = world()
    for task, prediction in zip(tasks, rag.predict(tasks, answering=EXACT), strict=True):
        joint = {}
        priors = rag.selector.log_prob(task, LISTS, TOKENS)
        for z, prior in zip(LISTS, priors, strict=True):
            group = rag.generator.scored(reading(task, z), prediction.answer)
            joint[z] = prior + float(textbook(rag.generator.model.hf, group).detach())
        assert prediction.selection.permutation == max(joint, key=lambda z: joint[z])
        assert prediction.selection.probabilities is not None
        product = float(np.prod(prediction.selection.probabilities))
        assert np.log(product) == pytest.approx(
            priors[LISTS.index(prediction.selection.permutation)], abs=1e-3
        )


def test_the_probability_of_each_place() -> None:
    rag, tasks = world()
    asked, template, budget = rag.selector, load_template("tiny-pointer"), rag.selector.budget
    for stop in (False, True):
        for selector in (
            ListSelector(asked.model, asked.template, k=3, n=5, budget=budget, stop=stop),
            PointerSelector(asked.model, template, k=3, n=5, budget=budget, stop=stop),
        ):
            selections = selector.greedy(tasks, TOKENS)
            chosen = [(task, s.permutation) for task, s in zip(tasks, selections, strict=True)]
            found = selector.place_probabilities(chosen, TOKENS)
            for own, selection in zip(found, selections, strict=True):
                assert own == pytest.approx(selection.probabilities, abs=1e-5)


def test_a_pointers_lists_are_summed_over_too() -> None:
    rag, (task, *_) = world()
    pointer = PointerSelector(
        rag.selector.model, load_template("tiny-pointer"), k=2, n=5, budget=rag.selector.budget
    )
    (all_of,) = weighted_lists(pointer, [task], 20, 0, TOKENS)
    (drawn,) = weighted_lists(pointer, [task], 19, 0, TOKENS)
    known = {z.permutation: z.log_prior for z in all_of.lists}
    assert all_of.exact and not drawn.exact and sum(map(np.exp, known.values())) == pytest.approx(1, abs=1e-4)
    assert [z.log_prior for z in drawn.lists] == pytest.approx(
        [known[z.permutation] for z in drawn.lists], abs=1e-4
    )
    (answer,) = Rag(pointer, rag.generator).predict([task], answering=EXACT)
    assert answer.selection.probabilities is not None and answer.distribution is not None


def test_lists_that_may_end_early_have_all_the_probability() -> None:
    rag, tasks = world()[0], tasks_of(TEXTS[:4])
    model, template = rag.selector.model, rag.selector.template
    selector = ListSelector(model, template, k=2, n=5, budget=rag.selector.budget, stop=True)
    for all_of, drawn in zip(
        weighted_lists(selector, tasks, 16, 0, TOKENS),
        weighted_lists(selector, tasks, 15, 0, TOKENS),
        strict=True,
    ):
        assert all_of.exact and len(all_of.lists) == 4 + 12 and not drawn.exact
        known = {z.permutation: z for z in all_of.lists}
        assert np.exp([z.log_prior for z in all_of.lists]).sum() == pytest.approx(1, abs=1e-4)
        for z in drawn.lists:
            assert z.log_prior == pytest.approx(known[z.permutation].log_prior, abs=1e-4)


def test_more_candidates_than_the_selector_reads() -> None:
    rag, tasks = world()[0], tasks_of([*TEXTS, *(f"Name{i} sings at Sivel" for i in range(7))])
    for task, prediction in zip(tasks, rag.predict(tasks, answering=MARGINAL), strict=True):
        assert len(set(prediction.selection.permutation)) == 2 and prediction.task is task
        (alone,) = rag.select([task])
        assert prediction.distribution is not None and not prediction.abstained
        assert max(prediction.selection.permutation) < 12 and len(alone.permutation) == 2


def test_below_the_threshold_there_is_no_answer() -> None:
    rag, tasks = world()
    (sure,) = rag.predict(tasks[:1], answering=MARGINAL)
    assert sure.distribution is not None and sure.shown == sure.answer
    confidence = sure.distribution.confidence
    for threshold, abstains in ((confidence, False), (confidence + 1e-6, True)):
        how = Answering(kind="marginal", samples=8, threshold=threshold)
        (found,) = rag.predict(tasks[:1], answering=how)
        assert found.abstained is abstains and found.answer == ("" if abstains else sure.answer)
        assert found.shown == ("no answer" if abstains else sure.answer)
        assert found.distribution == sure.distribution
    with pytest.raises(ConfigError, match="threshold: a greedy answer has no confidence"):
        rag.predict(tasks, answering=as_answering("greedy", threshold=0.5))


def test_without_a_selector_there_is_one_list() -> None:
    rag, tasks = world()
    (found,) = rag.predict(tasks[:1], select=False, answering=MARGINAL)
    assert found.selection.permutation == (0, 1) and found.selection.probabilities is None
    assert found.distribution is not None and found.distribution.lists == 1
    (greedy,) = rag.predict(tasks[:1], select=False, answering="greedy")
    assert found.answer == greedy.answer and found.distribution.answers[0].agreement == 1
    scored = rag.generator.scored(reading(tasks[0], (0, 1)), greedy.answer)
    likelihood = float(textbook(rag.generator.model.hf, scored).detach().exp())
    assert found.distribution.confidence == pytest.approx(likelihood, rel=1e-3)


def test_passages_apart_from_one_another_are_summed_over_one_by_one() -> None:
    """RAG-Sequence: the latent variable is the first choice."""
    rag, tasks = world()
    single = ListSelector(
        rag.selector.model, rag.selector.template, k=2, n=5, budget=rag.selector.budget, independent=True
    )
    (found,) = Rag(single, rag.generator).predict(tasks[:1], answering=MARGINAL)
    assert found.distribution is not None and found.distribution.exact and found.distribution.lists == 5
    first = np.exp(single.first_choices(tasks[:1], TOKENS)[0])
    sequences = [rag.generator.scored(reading(tasks[0], (i,)), found.answer) for i in range(5)]
    likelihood = [float(textbook(rag.generator.model.hf, s).detach().exp()) for s in sequences]
    assert found.distribution.confidence >= float(first @ np.array(likelihood)) - 1e-4
    assert len(found.selection.permutation) == 1
    (greedy,) = Rag(single, rag.generator).predict(tasks[:1])
    assert greedy.selection.probability_of == "first_choice"
    assert greedy.selection.probabilities == pytest.approx(sorted(first, reverse=True)[:2])


def test_answers_that_are_the_same_to_the_metric_are_summed() -> None:
    """By hand: two lists of weight 0.6 and 0.4."""
    table = np.log([[0.5, 0.2, 0.25], [0.1, 0.3, 0.5]])
    ranked, likelihoods = ranked_answers(["The cat", "cat.", "dog"], [0, 2], table, [0.6, 0.4])
    assert [(a.answer, a.agreement) for a in ranked] == [("The cat", 0.6), ("dog", 0.4)]
    assert [a.probability for a in ranked] == pytest.approx([0.6 * 0.7 + 0.4 * 0.4, 0.6 * 0.25 + 0.4 * 0.5])
    assert likelihoods.tolist() == pytest.approx([0.7, 0.4])
