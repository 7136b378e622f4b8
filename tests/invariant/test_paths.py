"""Paths against full enumeration in float64: lists and queries of two rounds as one latent variable."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ragdro.algorithms import Algorithm, Dro, DroCentered, Rloo
from ragdro.algorithms.weights import bound, importance_weights, log_ratios
from ragdro.config import EStep, Mixture
from ragdro.lm.groups import log_probs
from ragdro.lm.model import LanguageModel
from ragdro.rewriting.paths import pooled
from ragdro.system import Rag
from ragdro.training.e_step import e_step
from ragdro.training.path_proposals import path_proposals
from ragdro.training.proposals import proposals
from ragdro.types import Candidates, QuestionPath, Round, WeightedSample, WeightedTask
from tests.invariant.by_hand import projected
from tests.invariant.path_world import (
    NOTHING,
    TASK,
    choices_of,
    enumerate_paths,
    exact,
    kind_of,
    left,
    path_rag,
    read_of,
)

TOKENS = 10_000
ROLES = ("selector", "rewriter", "generator")


def drawn(rag: Rag, seed: int = 0, **settings: object) -> WeightedTask:
    """The product's own E-step of the one question."""
    step = EStep.model_validate({"max_tokens_per_micro_batch": TOKENS, **settings})
    assert rag.asking is not None
    propose = path_proposals(proposals(Dro(), step, seed, 1), rag.asking, step, seed, 1)
    (weighted,) = e_step(rag.selector, rag.generator, [TASK], propose=propose, max_tokens=TOKENS)
    return weighted


def place(sample: WeightedSample) -> int:
    assert sample.path is not None
    return places()[choices_of(sample.path)]


@cache
def places() -> dict[object, int]:
    return {path: i for i, path in enumerate(exact().paths)}


def estimate(weighted: WeightedTask) -> Tensor:
    """The weights by path of the enumeration."""
    total = torch.zeros(len(exact().paths), dtype=torch.float64)
    for sample in weighted.samples:
        total[place(sample)] += sample.weight
    return total


def test_the_paths_have_all_the_probability() -> None:
    truth = exact()
    assert float(truth.prior.exp().sum()) == pytest.approx(1, abs=1e-12)
    by_kind = [
        sum(float(p.exp()) for p, (_, kind, _) in zip(truth.prior, truth.paths, strict=True) if kind == k)
        for k in range(4)
    ]
    assert min(by_kind) > 0.02 and float(truth.posterior.max()) < 0.6  # otherwise little would be proved


def test_every_number_of_a_drawn_path_is_that_of_the_enumeration() -> None:
    truth, weighted = exact(), drawn(path_rag(), samples=60)
    ended = 0
    for sample in weighted.samples:
        assert sample.path is not None
        first, second = sample.path.rounds
        at, (z, kind, _) = place(sample), choices_of(sample.path)
        assert sample.log_likelihood == pytest.approx(float(truth.likelihood[at]), abs=1e-3)
        assert [weighted.task.candidates.passages[i] for i in sample.permutation] == list(
            read_of(truth.paths[at])
        )
        assert second.log_query == pytest.approx(float(truth.words[z][second.tokens[0]]), abs=1e-3)
        words = truth.words[z].exp()
        others = torch.tensor([kind_of(path_rag_decode(i)) == kind for i in range(len(words))])
        of_kind = float(words[others].sum().log())
        # log p of the lists is what the enumerated path has beside the sum over the query's like
        assert first.log_list + second.log_list == pytest.approx(float(truth.prior[at]) - of_kind, abs=1e-3)
        assert sample.log_prior == pytest.approx(first.log_list + second.log_query + second.log_list)
        assert sample.log_proposal == pytest.approx(sample.log_prior)
        ended += not second.permutation
        assert bool(second.permutation) == (kind != NOTHING) and second.candidates.passages == left(z, kind)
    assert 0 < ended < len(weighted.samples)
    assert sum(s.weight for s in weighted.samples) == pytest.approx(1)
    assert weighted.bound < float(truth.evidence) + 1


@cache
def _decoder() -> Rag:
    return path_rag()


def path_rag_decode(token: int) -> str:
    asking = _decoder().asking
    assert asking is not None
    return asking.rewriter.model.tokenizer.decode([token])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 1.6},
        {"mixture": Mixture(retriever=0.2, uniform=0.3)},
    ],
    ids=["from the models", "hotter", "mixture"],
)
def test_any_proposal_gives_the_posterior_if_it_is_corrected_for(settings: dict[str, object]) -> None:
    truth = exact()
    weighted = drawn(path_rag(), samples=1200, **settings)
    if settings:
        assert any(abs(s.log_prior - s.log_proposal) > 0.1 for s in weighted.samples)
    corrected = float((estimate(weighted) - truth.posterior).abs().sum())
    assert corrected < 0.35 and corrected < 6 / weighted.effective_sample_size**0.5
    assert weighted.bound == pytest.approx(float(truth.evidence), abs=0.2)
    if settings:
        ratios = torch.tensor([[s.log_likelihood for s in weighted.samples for _ in range(s.count)]])
        uncorrected = torch.zeros(len(truth.paths), dtype=torch.float64)
        at = [place(s) for s in weighted.samples for _ in range(s.count)]
        uncorrected.index_add_(0, torch.tensor(at), importance_weights(ratios.double())[0])
        assert float((uncorrected - truth.posterior).abs().sum()) > 1.5 * corrected


def all_paths() -> WeightedTask:
    """Every path, each word apart, with its posterior probability as its weight."""
    truth, found = exact(), list[tuple[QuestionPath, float, float, float]]()
    for (first, kind, second), prior, likelihood, posterior in zip(
        truth.paths, truth.prior.tolist(), truth.likelihood.tolist(), truth.posterior.tolist(), strict=True
    ):
        words = [i for i in range(len(truth.words[first])) if kind_of(path_rag_decode(i)) == kind]
        of_kind = float(truth.words[first][words].logsumexp(0))
        for word in words:
            log_query = float(truth.words[first][word])
            asked = Round(path_rag_decode(word), (word,), Candidates("q", left(first, kind)), second)
            path = QuestionPath((Round(TASK.question.question, (), TASK.candidates, first), asked))
            fraction = float(np.exp(log_query - of_kind))
            found.append((path, prior + log_query - of_kind, likelihood, posterior * fraction))
    whole, permutations = pooled(TASK, [path for path, *_ in found])
    samples = [
        WeightedSample(z, 1, prior, prior, likelihood, weight, path=path)
        for z, (path, prior, likelihood, weight) in zip(permutations, found, strict=True)
    ]
    return WeightedTask(whole, tuple(samples), 0.0, 1.0, False)


@pytest.mark.parametrize("role", ROLES)
def test_with_the_posterior_as_weights_the_losses_have_the_evidences_gradient(role: str) -> None:
    rag, weighted = path_rag(), all_paths()
    assert rag.asking is not None
    assert sum(s.weight for s in weighted.samples) == pytest.approx(1)
    models = {
        "selector": rag.selector.model,
        "generator": rag.generator.model,
        "rewriter": rag.asking.rewriter.model,
    }
    example = {
        "selector": lambda: Dro().selector_example(rag.selector, weighted),
        "generator": lambda: Dro().generator_example(rag.generator, weighted),
        "rewriter": lambda: Dro().rewriter_example(rag.asking.rewriter, weighted),
    }[role]()
    model: LanguageModel = models[role]
    values = log_probs(model, [example.group])[0]
    gradient = projected(model, -example.loss(torch.tensor(example.weights), values))
    expected = projected(model, enumerate_paths(rag).evidence)
    assert (gradient - expected).norm() < 2e-3 * expected.norm()


def shares(proposal: Tensor, repeats: int, m: int) -> Tensor:
    """[repeats, paths]: each path's fraction of the weights of m drawn from `proposal`."""
    truth, made = exact(), torch.Generator().manual_seed(m)
    z = torch.multinomial(proposal.exp(), repeats * m, replacement=True, generator=made).view(repeats, m)
    weights = importance_weights(log_ratios(truth.likelihood[z], truth.prior[z], proposal[z]))
    return torch.zeros(repeats, len(truth.paths), dtype=torch.float64).scatter_add(1, z, weights)


def slope(ms: list[int], values: list[float]) -> float:
    return float(np.polyfit(np.log(ms), np.log(values), 1)[0])


def test_the_error_falls_with_the_root_of_m_and_the_bias_with_m() -> None:
    truth = exact()
    ms, few = [64, 256, 1024, 4096], [16, 64, 256]
    errors = [
        float((shares(truth.prior, max(50, 100_000 // m), m) - truth.posterior).square().sum(1).mean().sqrt())
        for m in ms
    ]
    assert slope(ms, errors) == pytest.approx(-0.5, abs=0.1)
    biases = [float((shares(truth.prior, 2_000_000 // m, m).mean(0) - truth.posterior).norm()) for m in few]
    assert slope(few, biases) == pytest.approx(-1, abs=0.3)


def test_the_bound_is_below_the_evidence_and_rises_with_m() -> None:
    truth, means = exact(), []
    for m in (1, 4, 16, 64, 256):
        made = torch.Generator().manual_seed(m)
        z = torch.multinomial(truth.prior.exp(), 2**18, replacement=True, generator=made).view(-1, m)
        means.append(float(bound(log_ratios(truth.likelihood[z], truth.prior[z], truth.prior[z])).mean()))
    assert means == sorted(means) and means[-1] < float(truth.evidence)
    assert float(truth.evidence) - means[-1] < 0.2


@pytest.mark.parametrize("stop", [False, True])
def test_a_list_is_learned_with_the_k_of_its_round(stop: bool) -> None:
    rag = path_rag(ks=(1, 3), stop=stop)
    weighted, second = drawn(rag, samples=20), 0
    for sample in weighted.samples:
        assert sample.path is not None
        example = Dro().selector_example(rag.selector, replace(weighted, samples=(sample,)))
        lists = [one.log_list for one in sample.path.rounds if one.permutation]
        assert log_probs(rag.selector.model, [example.group])[0].tolist() == pytest.approx(lists, abs=1e-4)
        second += len(lists) == 2
    assert second


@pytest.mark.parametrize("algorithm", [DroCentered(), Rloo()], ids=lambda a: a.kind)
def test_advantages_reach_every_decision_of_a_path(algorithm: Algorithm) -> None:
    """Where nothing has moved the clipped loss has the gradient of the sum over paths of a_i log p(h_i)."""
    rag = path_rag()
    weighted = drawn(rag, samples=12)
    assert rag.asking is not None
    m, samples = 12, weighted.samples
    if algorithm.kind == "rloo":
        rewards = np.array([s.log_likelihood for s in samples for _ in range(s.count)])
        by_draw = iter((rewards - rewards.mean()) / (m - 1))
        advantages = [sum(float(next(by_draw)) for _ in range(s.count)) for s in samples]
    else:
        advantages = [s.weight - s.count / m for s in samples]
    for example, model, role in (
        (algorithm.selector_example(rag.selector, weighted), rag.selector.model, "selector"),
        (algorithm.rewriter_example(rag.asking.rewriter, weighted), rag.asking.rewriter.model, "rewriter"),
    ):
        values = log_probs(model, [example.group])[0]
        gradient = projected(model, -example.loss(torch.tensor(example.weights), values))
        total = torch.zeros(())
        for sample, advantage in zip(samples, advantages, strict=True):
            one = replace(weighted, samples=(replace(sample, weight=1.0),))
            alone = (
                Dro().selector_example(rag.selector, one)
                if role == "selector"
                else Dro().rewriter_example(rag.asking.rewriter, one)
            )
            total = total + advantage * log_probs(model, [alone.group])[0].sum()
        expected = projected(model, total)
        assert (gradient - expected).norm() < 2e-3 * expected.norm()
