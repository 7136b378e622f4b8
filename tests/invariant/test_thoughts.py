"""Thoughts against full enumeration in float64: a list and a thought about it as one latent variable."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ragdro.algorithms import Dro
from ragdro.algorithms.weights import bound, importance_weights
from ragdro.config import Answering, EStep, Mixture
from ragdro.evaluation.metrics import normalise
from ragdro.lm.groups import log_probs
from ragdro.system import Rag, reading
from ragdro.training.e_step import e_step
from ragdro.training.path_proposals import path_proposals
from ragdro.training.proposals import proposals
from ragdro.training.thoughts import thinks
from ragdro.types import Thought, WeightedSample, WeightedTask
from tests.invariant import path_world
from tests.invariant.by_hand import projected, textbook_all
from tests.invariant.thought_world import TASK, Choices, by_hand, enumerate_thoughts, exact, thought_rag

TOKENS = 10_000


def drawn(rag: Rag, seed: int = 0, **settings: object) -> WeightedTask:
    """The product's own E-step of the one question."""
    step = EStep.model_validate({"max_tokens_per_micro_batch": TOKENS, **settings})
    propose, think = proposals(Dro(), step, seed, 1), thinks(seed, 1, TOKENS)
    (weighted,) = e_step(rag.selector, rag.generator, [TASK], propose=propose, max_tokens=TOKENS, think=think)
    return weighted


def choices_of(sample: WeightedSample) -> Choices:
    assert sample.thought is not None
    return sample.permutation[0], sample.thought.tokens


@cache
def places() -> dict[Choices, int]:
    return {choices: i for i, choices in enumerate(exact().choices)}


def estimate(weighted: WeightedTask) -> Tensor:
    """The weights by list and thought of the enumeration."""
    total = torch.zeros(len(exact().choices), dtype=torch.float64)
    for sample in weighted.samples:
        total[places()[choices_of(sample)]] += sample.weight
    return total


def by_beginning(probabilities: Tensor) -> Tensor:
    """Summed over what has the same list and the same first token."""
    keys = [(place, thought[0]) for place, thought in exact().choices]
    order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    total = torch.zeros(len(order), dtype=torch.float64)
    return total.index_add(0, torch.tensor([order[key] for key in keys]), probabilities)


def test_lists_and_thoughts_have_all_the_probability() -> None:
    truth = exact()
    assert float(truth.prior.exp().sum()) == pytest.approx(1, abs=1e-12)
    ended = sum(float(p.exp()) for p, (_, r) in zip(truth.prior, truth.choices, strict=True) if len(r) == 1)
    assert 0.01 < ended < 0.9 and float(truth.posterior.max()) < 0.6  # otherwise little would be proved
    spread = truth.likelihood.view(3, -1).std(1)
    assert float(spread.min()) > 0.5  # what is thought matters


def test_every_number_of_a_draw_is_that_of_the_enumeration() -> None:
    truth, weighted = exact(), drawn(thought_rag(), samples=60)
    for sample in weighted.samples:
        assert sample.thought is not None
        at = places()[choices_of(sample)]
        assert sample.log_prior == pytest.approx(float(truth.lists[at]), abs=1e-4)
        assert sample.thought.log_prior == pytest.approx(float(truth.thoughts[at]), abs=1e-4)
        assert sample.thought.log_proposal == sample.thought.log_prior
        assert sample.log_likelihood == pytest.approx(float(truth.likelihood[at]), abs=1e-4)
    lengths = {len(s.thought.tokens) for s in weighted.samples if s.thought is not None}
    assert lengths == {1, 2}  # some have ended, some are cut
    assert sum(s.weight for s in weighted.samples) == pytest.approx(1)
    rows = torch.tensor([[s.log_ratio for s in weighted.samples for _ in range(s.count)]]).double()
    assert weighted.bound == pytest.approx(float(bound(rows)), abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 1.6}, {"mixture": Mixture(retriever=0.2, uniform=0.3)}],
    ids=["from the models", "hotter lists", "mixture"],
)
def test_any_proposal_of_lists_gives_the_posterior(settings: dict[str, object]) -> None:
    truth = exact()
    weighted = drawn(thought_rag(), samples=1000, **settings)
    if settings:
        assert any(abs(s.log_prior - s.log_proposal) > 0.1 for s in weighted.samples)
    found, expected = by_beginning(estimate(weighted)), by_beginning(truth.posterior)
    size = weighted.effective_sample_size
    # Of n independent draws the mean absolute errors sum to less than (2 outcomes / (pi n))^1/2.
    assert float((found - expected).abs().sum()) < (2 * len(expected) / (torch.pi * size)) ** 0.5
    assert size > 200
    assert weighted.bound == pytest.approx(float(truth.evidence), abs=0.2)
    by_list = estimate(weighted).view(3, -1).sum(1)
    assert by_list.tolist() == pytest.approx(truth.posterior.view(3, -1).sum(1).tolist(), abs=0.1)


def test_thoughts_are_drawn_as_probable_as_they_are() -> None:
    truth, weighted = exact(), drawn(thought_rag(), samples=4000)
    counts = torch.zeros(len(truth.choices), dtype=torch.float64)
    for sample in weighted.samples:
        counts[places()[choices_of(sample)]] += sample.count
    probable = truth.prior.exp()
    expected = (2 * probable / (torch.pi * 4000)).sqrt().sum()  # of the mean absolute error
    assert float((counts / 4000 - probable).abs().sum()) < 1.3 * float(expected)


def some(choices: list[Choices], weights: list[float]) -> WeightedTask:
    """These lists and thoughts with these weights."""
    truth = exact()
    samples = []
    for (place, tokens), weight in zip(choices, weights, strict=True):
        at = places()[place, tokens]
        list_p, thought_p = float(truth.lists[at]), float(truth.thoughts[at])
        thought = Thought("", tokens, thought_p, thought_p)
        likelihood = float(truth.likelihood[at])
        samples.append(WeightedSample((place,), 1, list_p, list_p, likelihood, weight, thought=thought))
    return WeightedTask(TASK, tuple(samples), 0.0, 1.0, False)


@pytest.mark.parametrize("role", ["selector", "generator"])
def test_with_the_posterior_as_weights_the_losses_have_the_evidences_gradient(role: str) -> None:
    rag, truth = thought_rag(), exact()
    model = rag.selector.model if role == "selector" else rag.generator.model
    gradient, each = torch.zeros(()), len(truth.choices) // 3
    for start in range(0, len(truth.choices), each):  # a list at a time: the loss is a sum over samples
        weights = truth.posterior[start : start + each].tolist()
        weighted = some(truth.choices[start : start + each], weights)
        if role == "selector":
            example = Dro().selector_example(rag.selector, weighted)
        else:
            example = Dro().generator_example(rag.generator, weighted)
        values = log_probs(model, [example.group])[0]
        gradient = gradient + projected(model, -example.loss(torch.tensor(example.weights), values))
    expected = projected(model, enumerate_thoughts(rag).evidence)
    assert (gradient - expected).norm() < 2e-3 * expected.norm()


def test_the_generator_climbs_the_bound_of_its_samples() -> None:
    """The gradient of log 1/m sum_i p(y|x,d_zi,r_i) p(r_i|x,d_zi) / q(r_i), q being what it was."""
    rag = thought_rag()
    weighted = drawn(rag, samples=12)
    example = Dro().generator_example(rag.generator, weighted)
    model = rag.generator.model
    values = log_probs(model, [example.group])[0]
    gradient = projected(model, -example.loss(torch.tensor(example.weights), values))
    reader = model.hf.double()
    samples = [s for s in weighted.samples for _ in range(s.count)]
    thoughts, answers = by_hand(rag, [choices_of(s) for s in samples])
    log_q = torch.tensor([s.thought.log_proposal for s in samples if s.thought]).double()
    ratios = textbook_all(reader, answers) + textbook_all(reader, thoughts) - log_q
    assert float(bound(ratios.detach()[None])) == pytest.approx(weighted.bound, abs=1e-4)
    expected = projected(model, bound(ratios[None])[0])
    assert (gradient - expected).norm() < 2e-3 * expected.norm()
    weights = importance_weights(ratios.detach()[None])[0]
    alone = projected(model, (weights * textbook_all(reader, answers)).sum())
    assert (alone - expected).norm() > 0.1 * expected.norm()  # the thoughts' part is no small one


def test_behind_several_rounds_a_thought_is_of_all_that_was_read() -> None:
    rag = path_world.path_rag(think=3)
    step = EStep(samples=20, max_tokens_per_micro_batch=TOKENS)
    assert rag.asking is not None
    propose = path_proposals(proposals(Dro(), step, 0, 1), rag.asking, step, 0, 1)
    (weighted,) = e_step(
        rag.selector,
        rag.generator,
        [path_world.TASK],
        propose=propose,
        max_tokens=TOKENS,
        think=thinks(0, 1, TOKENS),
    )
    reader = rag.generator.model
    ids = dict(reader.tokenizer.hf.get_vocab())
    assert len({len(s.permutation) for s in weighted.samples}) > 1
    for sample in weighted.samples:
        one = replace(weighted, samples=(replace(sample, weight=1.0),))
        example = Dro().generator_example(rag.generator, one)
        answer, thought = log_probs(reader, [example.group])[0].tolist()
        assert sample.thought is not None
        assert thought == pytest.approx(sample.thought.log_prior, abs=1e-3)
        assert answer == pytest.approx(sample.log_likelihood, abs=1e-3)
        sequence = example.group.sequences[1].tokens.tolist()  # type: ignore[attr-defined]
        read = [weighted.task.candidates.passages[i].id for i in sample.permutation]
        assert [sequence.count(ids[word]) >= 1 for word in read] == [True] * len(read)
    ratio = [s.log_likelihood + s.log_prior - s.log_proposal for s in weighted.samples]
    assert [s.log_ratio for s in weighted.samples] == pytest.approx(ratio)  # a thought's own q is its p


def test_a_marginal_answer_is_summed_over_lists_and_thoughts() -> None:
    rag, truth = thought_rag(), exact()
    how = Answering(kind="marginal", samples=8, thoughts=300)
    (found,) = rag.predict([TASK], answering=how)
    distribution = found.distribution
    assert distribution is not None and distribution.thoughts == 300 and not distribution.exact
    assert sum(a.agreement for a in distribution.answers) == pytest.approx(1, abs=1e-6)
    expected: dict[str, float] = {}
    with torch.no_grad():
        reader = rag.generator.model.hf.double()
        for answer in distribution.answers[:3]:
            _, answers = by_hand(rag, truth.choices, rag.generator.answer_ids(TASK.question, answer.answer))
            expected[answer.answer] = float((truth.prior + textbook_all(reader, answers)).logsumexp(0).exp())
    named = [normalise(name) for name in expected]
    assert len(set(named)) == 3
    for answer in distribution.answers[:3]:
        others = [a for a in distribution.answers if normalise(a.answer) == normalise(answer.answer)]
        assert others == [answer]
        assert answer.probability == pytest.approx(expected[answer.answer], rel=0.15)
    assert found.answer == max(expected, key=lambda name: expected[name])
    rag.generator.model.hf.float()
    assert found.thought is not None
    again, other = rag.predict([TASK, TASK], answering=how)[0], rag.predict([TASK], answering="greedy")[0]
    assert again.thought is not None and again.thought.tokens == found.thought.tokens
    assert again.distribution is not None and again.answer == found.answer
    assert again.distribution.confidence == pytest.approx(distribution.confidence, abs=1e-5)
    (read,) = rag.generator.thought_of([reading(TASK, other.selection.permutation)], TOKENS)
    assert other.thought == read.thought
    (log_p,) = rag.likelihoods([other])
    assert 0 < log_p < 1


def test_more_thoughts_vary_less() -> None:
    rag = thought_rag()
    spreads = []
    for thoughts in (1, 64):
        hows = [Answering(kind="marginal", samples=8, thoughts=thoughts, seed=seed) for seed in range(12)]
        found = [rag.predict([TASK], answering=how)[0].distribution for how in hows]
        spreads.append(float(np.std([d.confidence for d in found if d is not None])))
    assert spreads[1] < 0.5 * spreads[0]
