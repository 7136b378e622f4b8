"""Weights, bound and losses against enumeration in float64: 5 candidates, K = 2, 20 ordered lists."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ragdro.algorithms.losses import weighted_loss
from ragdro.algorithms.weights import bound, effective_sample_size, importance_weights, impossible, log_ratios

LISTS = 20


def model(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(log prior, log likelihood) of each list: any two tables will do."""
    made = torch.Generator().manual_seed(seed)
    prior = torch.randn(LISTS, generator=made, dtype=torch.float64).log_softmax(0)
    return prior, 2 * torch.randn(LISTS, generator=made, dtype=torch.float64) - 3


def draw(proposal: torch.Tensor, questions: int, m: int, seed: int) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.multinomial(proposal.exp(), questions * m, replacement=True, generator=made).view(
        questions, m
    )


@pytest.mark.parametrize("from_prior", [True, False])
def test_weights_converge_to_the_posterior_whatever_the_proposal(from_prior: bool) -> None:
    prior, likelihood = model(0)
    posterior = (prior + likelihood).softmax(0)
    proposal = prior if from_prior else (0.4 * prior).log_softmax(0)
    z = draw(proposal, 1, 200_000, seed=1)
    weights = importance_weights(log_ratios(likelihood[z], prior[z], proposal[z]))
    estimate = torch.zeros(LISTS, dtype=torch.float64).index_add(0, z[0], weights[0])
    assert estimate.numpy() == pytest.approx(posterior.numpy(), abs=0.005)


def test_without_the_correction_another_proposal_is_biased() -> None:
    """What leaving log p - log q out would do: the test above could not pass by chance."""
    prior, likelihood = model(0)
    proposal = (0.4 * prior).log_softmax(0)
    z = draw(proposal, 1, 200_000, seed=1)
    weights = importance_weights(log_ratios(likelihood[z], proposal[z], proposal[z]))
    estimate = torch.zeros(LISTS, dtype=torch.float64).index_add(0, z[0], weights[0])
    assert (estimate - (prior + likelihood).softmax(0)).abs().max() > 0.02


def test_the_bound_lies_below_the_evidence_and_rises_with_m() -> None:
    prior, likelihood = model(2)
    evidence = float((prior + likelihood).logsumexp(0))
    means = []
    for m in (1, 4, 16, 256):
        z = draw(prior, 20_000, m, seed=m)
        means.append(float(bound(log_ratios(likelihood[z], prior[z], prior[z])).mean()))
    assert means == sorted(means)
    assert means[-1] < evidence
    assert means[-1] == pytest.approx(evidence, abs=0.02)
    assert means[0] == pytest.approx(float((prior.exp() * likelihood).sum()), abs=0.03)


def test_the_generators_loss_has_the_gradient_of_the_bound() -> None:
    prior, likelihood = model(3)
    z = draw(prior, 6, 8, seed=3)
    table = likelihood.clone().requires_grad_()
    bound(log_ratios(table[z], prior[z], prior[z])).sum().backward()
    expected = table.grad
    assert expected is not None
    again = likelihood.clone().requires_grad_()
    weights = importance_weights(log_ratios(likelihood[z], prior[z], prior[z]))
    sum(weighted_loss(w, again[row]) for w, row in zip(weights, z, strict=True)).backward()
    assert again.grad is not None
    assert (again.grad + expected).abs().max() < 1e-12


def test_the_expected_loss_gradients_approach_those_of_the_evidence() -> None:
    """With many samples the selector's gradient is that of log p(y|x), exact by summation."""
    logits, likelihood = model(4)
    exact = logits.clone().requires_grad_()
    (exact.log_softmax(0) + likelihood).logsumexp(0).backward()
    z = draw(logits.log_softmax(0), 1, 400_000, seed=4)
    prior = logits.log_softmax(0)
    weights = importance_weights(log_ratios(likelihood[z], prior[z], prior[z]))
    estimate = logits.clone().requires_grad_()
    weighted_loss(weights[0], estimate.log_softmax(0)[z[0]]).backward()
    assert exact.grad is not None and estimate.grad is not None
    assert (exact.grad + estimate.grad).abs().max() < 0.005


def test_by_hand() -> None:
    ratios = torch.log(torch.tensor([[1.0, 3.0], [2.0, 2.0], [0.0, 0.5]], dtype=torch.float64))
    weights = importance_weights(ratios)
    assert weights.numpy() == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5], [0.0, 1.0]]))
    assert effective_sample_size(weights).tolist() == pytest.approx([1.6, 2.0, 1.0])
    assert bound(ratios).tolist() == pytest.approx([math.log(2), math.log(2), math.log(0.25)])


def test_an_impossible_question_gets_uniform_weights_and_is_counted() -> None:
    ratios = torch.tensor([[-math.inf] * 4, [-math.inf, 0.0, 0.0, -math.inf]])
    assert impossible(ratios).tolist() == [True, False]
    assert importance_weights(ratios).tolist() == [[0.25] * 4, [0.0, 0.5, 0.5, 0.0]]
