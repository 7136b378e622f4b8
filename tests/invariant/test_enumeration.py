"""The estimator against full enumeration: 5 candidates, K = 2, 20 ordered lists, in float64.

`Exact` computes every quantity by summation over all lists, with plain forward passes of whole sequences
and nothing of the product's own scoring, for both kinds of selector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from ragdro.algorithms import Marginal
from ragdro.algorithms.losses import weighted_loss
from ragdro.algorithms.weights import bound, importance_weights, log_ratios
from ragdro.config import EStep, Evaluation
from ragdro.lm.groups import ScoredGroup, log_probs
from ragdro.system import Rag, reading
from ragdro.training import evaluate
from ragdro.training.e_step import e_step
from ragdro.training.proposals import proposals as proposals_of
from ragdro.types import Task
from tests.invariant.by_hand import DIRECTIONS, LISTS, lists_by_hand, projected, textbook
from tests.worlds import pocket_rag, pocket_tasks


@dataclass(frozen=True)
class Exact:
    """One question: log p(z|x) and log p(y|x,d_z) of all lists, and the gradients of each."""

    prior: Tensor
    likelihood: Tensor
    selector_scores: Tensor
    generator_scores: Tensor

    @property
    def posterior(self) -> Tensor:
        return (self.prior + self.likelihood).softmax(0)

    @property
    def evidence(self) -> float:
        return float((self.prior + self.likelihood).logsumexp(0))


@pytest.fixture(params=["list", "pointer"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def system(kind: str, seed: int = 0) -> tuple[Rag, Task]:
    return pocket_rag(k=2, n=5, seed=seed, kind=kind), pocket_tasks(1, 5)[0]


@cache
def exact(kind: str, seed: int = 0) -> Exact:
    rag, task = system(kind, seed)
    reader = rag.generator.model.hf.double()
    answers = [textbook(reader, rag.generator.scored(reading(task, z))) for z in LISTS]
    tables = []
    for model, values in (
        (rag.selector.model, lists_by_hand(rag, task)),
        (rag.generator.model, answers),
    ):
        scores = torch.stack([projected(model, v) for v in values])
        tables += [torch.stack(values).detach(), scores]
    return Exact(tables[0], tables[2], tables[1], tables[3])


def draw(proposal: Tensor, repeats: int, m: int) -> Tensor:
    made = torch.Generator().manual_seed(m)
    drawn = torch.multinomial(proposal.exp(), repeats * m, replacement=True, generator=made)
    return drawn.view(repeats, m)


def shares(truth: Exact, proposal: Tensor, repeats: int, m: int) -> Tensor:
    """[repeats, lists]: each list's fraction of the weights of m samples; times scores, a gradient
    estimate."""
    z = draw(proposal, repeats, m)
    weights = importance_weights(log_ratios(truth.likelihood[z], truth.prior[z], proposal[z]))
    return torch.zeros(repeats, len(LISTS), dtype=torch.float64).scatter_add(1, z, weights)


def test_the_product_computes_what_enumeration_finds(kind: str) -> None:
    truth, (rag, task) = exact(kind), system(kind)
    assert float(truth.prior.exp().sum()) == pytest.approx(1, abs=1e-12)
    assert float(truth.prior.exp().std()) > 0.01  # a uniform prior would prove little
    assert rag.selector.log_prob(task, LISTS, 10_000) == pytest.approx(truth.prior.tolist(), abs=2e-4)
    group = rag.generator.group([reading(task, z) for z in LISTS])
    log_likelihoods = log_probs(rag.generator.model, [group])[0].tolist()
    assert log_likelihoods == pytest.approx(truth.likelihood.tolist(), abs=2e-4)


@pytest.mark.parametrize("role", ["selector", "generator"])
def test_with_the_posterior_as_weights_the_losses_have_the_evidences_gradient(role: str, kind: str) -> None:
    """Fisher's identity: ∇ log p(y|x) = E_posterior[∇ log p(z|x)], and the same for log p(y|x,d_z)."""
    truth, (rag, task) = exact(kind), system(kind)
    if role == "selector":
        model, scores = rag.selector.model, truth.selector_scores
        group: ScoredGroup = rag.selector.group(task, LISTS)
    else:
        model, scores = rag.generator.model, truth.generator_scores
        group = rag.generator.group([reading(task, z) for z in LISTS])
    loss = weighted_loss(truth.posterior.float(), log_probs(model, [group])[0])
    expected = truth.posterior @ scores
    gradient = projected(model, -loss)
    assert (gradient - expected).norm() < 1e-3 * expected.norm()


def test_the_score_functions_expectation_is_zero(kind: str) -> None:
    """E_p[∇ log p(z|x)] = 0: a constant taken off the selector's weights changes no expected gradient."""
    truth = exact(kind)
    mean = truth.prior.exp() @ truth.selector_scores
    assert mean.norm() < 1e-7 * truth.selector_scores.norm(dim=1).max()


def slope(ms: list[int], values: list[float]) -> float:
    return float(np.polyfit(np.log(ms), np.log(values), 1)[0])


def test_the_gradients_error_falls_with_the_root_of_m_and_its_bias_with_m(kind: str) -> None:
    truth = exact(kind)
    scores = torch.cat([truth.selector_scores, truth.generator_scores], dim=1)
    roles = (slice(0, DIRECTIONS), slice(DIRECTIONS, None))
    ms, few = [1, 4, 16, 64, 256, 1024, 4096], [1, 4, 8, 16, 32, 64]
    errors = {
        m: shares(truth, truth.prior, max(200, 50_000 // m), m) @ scores - truth.posterior @ scores
        for m in ms
    }
    biases = {
        m: (shares(truth, truth.prior, 4_000_000 // m, m).mean(0) - truth.posterior) @ scores for m in few
    }
    for role in roles:
        deviations = [float(errors[m][:, role].square().sum(1).mean().sqrt()) for m in ms]
        assert slope(ms, deviations) == pytest.approx(-0.5, abs=0.06)
        norms = [float(biases[m][role].norm()) for m in few]
        assert slope(few, norms) == pytest.approx(-1, abs=0.25)


def proposals(kind: str) -> dict[str, Tensor]:
    truth = exact(kind)
    mixed = 0.5 * truth.prior.exp() + 0.5 / len(LISTS)
    return {
        "hotter": (truth.prior / 2).log_softmax(0),
        "colder": (truth.prior * 1.5).log_softmax(0),
        "an earlier selector": exact(kind, seed=3).prior,
        "mixture with uniform": mixed.log(),
        "top-p cut, a fifth uniform": (0.8 * cut(kind, 0.6).exp() + 0.2 / len(LISTS)).log(),
        "an engine of low precision": quantised(kind),
    }


def cut(kind: str, p: float) -> Tensor:
    """The likeliest lists that together reach `p`, renormalised; minus infinity for the others."""
    prior = exact(kind).prior
    order = prior.argsort(descending=True)
    kept = order[: int((prior[order].exp().cumsum(0) < p).sum()) + 1]
    proposal = torch.full_like(prior, -torch.inf)
    proposal[kept] = prior[kept].log_softmax(0)
    return proposal


def quantised(kind: str) -> Tensor:
    """What an engine draws from that holds the same selector in eight bits a weight."""
    rag, task = system(kind)
    model = rag.selector.model.hf
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.float8_e5m2))
        return torch.stack(lists_by_hand(rag, task))


@pytest.mark.parametrize(
    "name",
    [
        "hotter",
        "colder",
        "an earlier selector",
        "mixture with uniform",
        "top-p cut, a fifth uniform",
        "an engine of low precision",
    ],
)
def test_any_proposal_that_reaches_every_list_gives_the_posterior_if_it_is_corrected_for(
    name: str, kind: str
) -> None:
    truth, proposal = exact(kind), proposals(kind)[name]
    z = draw(proposal, 1, 200_000)

    def distance(ratios: Tensor, target: Tensor) -> float:
        estimate = torch.zeros(len(LISTS), dtype=torch.float64)
        estimate.index_add_(0, z[0], importance_weights(ratios)[0])
        return float((estimate - target).abs().sum())

    corrected = distance(log_ratios(truth.likelihood[z], truth.prior[z], proposal[z]), truth.posterior)
    uncorrected = distance(truth.likelihood[z], truth.posterior)
    assert corrected < 0.04
    assert uncorrected > 3 * corrected and uncorrected > 0.05


def test_a_proposal_that_cuts_lists_off_gives_the_posterior_of_the_rest(kind: str) -> None:
    """Weights cannot bring back what is never drawn: why samples are drawn without a top-p cut."""
    truth, proposal = exact(kind), cut(kind, 0.8)
    kept = proposal.isfinite()
    z = draw(proposal, 1, 200_000)
    weights = importance_weights(log_ratios(truth.likelihood[z], truth.prior[z], proposal[z]))
    estimate = torch.zeros(len(LISTS), dtype=torch.float64).index_add_(0, z[0], weights[0])
    rest = torch.zeros_like(truth.posterior)
    rest[kept] = truth.posterior[kept] / truth.posterior[kept].sum()
    assert float((estimate - rest).abs().sum()) < 0.04
    assert float((estimate - truth.posterior).abs().sum()) > 0.05


def marginal(rag: Rag, task: Task) -> Tensor:
    """log p(d_k|x) + log p(y|x,d_k) of each k, p(d_k|x) being the sum of p(z|x) over the lists that begin
    with k. From here on both models compute in float64."""
    reader, lists = rag.generator.model.hf.double(), lists_by_hand(rag, task)
    first = torch.stack([p for _, p in sorted(zip(LISTS, lists, strict=True))]).view(5, 4).logsumexp(1)
    alone = [textbook(reader, rag.generator.scored(reading(task, (k,)))) for k in range(5)]
    return first + torch.stack(alone)


@pytest.mark.parametrize("role", ["selector", "generator"])
def test_the_marginal_objective_has_the_sums_value_and_gradient(role: str, kind: str) -> None:
    """log sum_k p(d_k|x) p(y|x,d_k)."""
    rag, task = system(kind)
    (weighted,) = e_step(
        rag.selector,
        rag.generator,
        [task],
        propose=proposals_of(Marginal(), EStep(), 0, 1),
        max_tokens=9999,
    )
    built = (
        Marginal().selector_example(rag.selector, weighted)
        if role == "selector"
        else Marginal().generator_example(rag.generator, weighted)
    )
    model = rag.selector.model if role == "selector" else rag.generator.model
    values = log_probs(model, [built.group])[0]
    gradient = projected(model, -built.loss(torch.tensor(built.weights), values))
    exact_sum = marginal(rag, task).logsumexp(0)
    assert weighted.bound == pytest.approx(float(exact_sum.detach()), abs=2e-4)
    expected = projected(model, exact_sum)
    assert (gradient - expected).norm() < 1e-3 * expected.norm()


@torch.no_grad()
def test_of_the_marginal_objective_the_whole_sum_is_reported(kind: str) -> None:
    """Nothing was drawn, so no number of samples cuts it off."""
    rag, task = system(kind)
    few = Evaluation(samples=2, tight_samples=3)
    drawn = evaluate.draw(rag, Marginal(), few, 0, [task])
    reported = evaluate.sampled_metrics(drawn.weighted, Marginal(), few)
    terms = marginal(rag, task)
    assert reported["bound"] == pytest.approx(float(terms.logsumexp(0)), abs=2e-4)
    assert reported["tight_bound"] == reported["bound"]
    expected = 1 / float(terms.softmax(0).square().sum())
    assert reported["effective_sample_size"] == pytest.approx(expected, abs=1e-3) and expected > 2


def test_the_bound_is_below_the_evidence_and_rises_with_m(kind: str) -> None:
    truth, means = exact(kind), []
    for m in (1, 2, 8, 64, 1024):
        z = draw(truth.prior, 500_000 // m, m)
        bounds = bound(log_ratios(truth.likelihood[z], truth.prior[z], truth.prior[z]))
        means.append(float(bounds.mean()))
        error = float(bounds.std() / len(bounds) ** 0.5)
    assert means == sorted(means) and means[-2] < truth.evidence
    assert means[-1] < truth.evidence + 3 * error < truth.evidence + 0.01
    assert means[0] == pytest.approx(float(truth.prior.exp() @ truth.likelihood), abs=0.02)
    assert truth.evidence - means[-1] < 0.02
