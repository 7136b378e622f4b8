"""The objectives beyond the paper's, held against enumeration of 20 lists and against hand calculation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ragdro.algorithms.losses import clipped_loss, preference_loss
from ragdro.algorithms.weights import (
    centered,
    effective_sample_size,
    importance_weights,
    leave_one_out,
    log_ratios,
    penalised,
    tempered_weights,
)
from tests.unit.algorithms.test_weights import draw, model


def scores(logits: Tensor) -> Tensor:
    """[lists, logits]: the gradient of log p(z) by the logits, one row a list."""
    return torch.eye(len(logits), dtype=torch.float64) - logits.softmax(0)


def selector_gradients(m: int, *, center: bool) -> tuple[Tensor, Tensor]:
    """(estimates [repeats, logits] from m samples each, the exact gradient of log p(y|x))."""
    prior, likelihood = model(5)
    table = scores(prior)
    z = draw(prior, 400_000 // m, m, seed=m)
    weights = importance_weights(log_ratios(likelihood[z], prior[z], prior[z]))
    if center:
        weights = centered(weights)
    estimates = (weights[:, :, None] * table[z]).sum(1)
    return estimates, (prior + likelihood).softmax(0) @ table


def test_centering_keeps_the_expected_gradient_and_lowers_its_variance() -> None:
    for m in (8, 64):
        plain, exact = selector_gradients(m, center=False)
        better, _ = selector_gradients(m, center=True)
        assert (better.mean(0) - plain.mean(0)).norm() < 3 * plain.var(0).sum().sqrt() / len(plain) ** 0.5
        assert better.var(0).sum() < 0.95 * plain.var(0).sum()
        assert (better.mean(0) - exact).norm() < exact.norm()


def test_equal_weights_move_nothing_when_centered() -> None:
    assert centered(importance_weights(torch.full((1, 8), -2.0))).abs().max() < 1e-7


def test_tempering_keeps_the_effective_sample_size_at_its_floor_and_no_higher() -> None:
    made = torch.Generator().manual_seed(0)
    ratios = torch.randn(200, 8, generator=made, dtype=torch.float64) * torch.linspace(0.1, 30, 200)[:, None]
    before = effective_sample_size(importance_weights(ratios))
    weights = tempered_weights(ratios, floor=3.0)
    after = effective_sample_size(weights)
    assert (before < 3).any() and (before > 3).any()
    assert after[before >= 3].tolist() == pytest.approx(before[before >= 3].tolist())
    assert after[before < 3].tolist() == pytest.approx([3.0] * int((before < 3).sum()), abs=1e-6)
    assert (weights.argsort(1) == ratios.argsort(1)).all()


def test_tempering_leaves_an_impossible_sample_with_next_to_nothing() -> None:
    ratios = torch.tensor([[0.0, -math.inf, 0.0, 0.0], [-math.inf] * 4], dtype=torch.float64)
    assert tempered_weights(ratios, 2.0).tolist() == [pytest.approx([1 / 3, 0, 1 / 3, 1 / 3]), [0.25] * 4]


def test_leave_one_out_by_hand_and_without_bias() -> None:
    """3, 1, 2: each against the mean of the other two, over m; and E[sum_i a_i grad log p] = grad E[r]."""
    advantages = leave_one_out(torch.tensor([[3.0, 1.0, 2.0]]))
    assert advantages.tolist()[0] == pytest.approx([1.5 / 3, -1.5 / 3, 0.0])
    assert leave_one_out(torch.tensor([[3.0]])).tolist() == [[0.0]]
    prior, reward = model(6)
    exact = prior.clone().requires_grad_()
    (exact.softmax(0) * reward).sum().backward()
    z = draw(prior, 200_000, 4, seed=6)
    estimates = (leave_one_out(reward[z])[:, :, None] * scores(prior)[z]).sum(1)
    error = estimates.std(0) / len(estimates) ** 0.5
    assert exact.grad is not None
    assert ((estimates.mean(0) - exact.grad).abs() < 4.5 * error).all()


def test_the_penalised_reward_has_the_gradient_of_reward_less_divergence() -> None:
    """By summation over all lists, and without bias from samples."""
    prior, reward = model(6)
    reference, kl = model(7)[0], 0.7
    exact = prior.clone().requires_grad_()
    p = exact.log_softmax(0)
    (p.exp() @ reward - kl * (p.exp() @ (p - reference))).backward()
    assert exact.grad is not None
    rewards = penalised(reward[None], prior[None], reference[None], kl)[0]
    assert ((prior.exp() * rewards) @ scores(prior) - exact.grad).abs().max() < 1e-12
    z = draw(prior, 200_000, 4, seed=6)
    advantages = leave_one_out(penalised(reward[z], prior[z], reference[z], kl))
    estimates = (advantages[:, :, None] * scores(prior)[z]).sum(1)
    assert ((estimates.mean(0) - exact.grad).abs() < 4.5 * estimates.std(0) / len(estimates) ** 0.5).all()


def test_the_clipped_loss_starts_as_the_policy_gradient_and_stops_where_it_has_gone_far_enough() -> None:
    advantages = torch.tensor([0.5, -0.25], dtype=torch.float64)
    old = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    start = old.clone().requires_grad_()
    clipped_loss(advantages, start, old, clip=0.2).backward()
    assert start.grad is not None and start.grad.tolist() == pytest.approx([-0.5, 0.25])
    moved = (old + torch.tensor([0.3, -0.3])).requires_grad_()
    clipped_loss(advantages, moved, old, clip=0.2).backward()
    assert moved.grad is not None and moved.grad.tolist() == [0.0, 0.0]
    wrong = (old + torch.tensor([-0.3, 0.3])).requires_grad_()  # moved the wrong way: still pulled back
    clipped_loss(advantages, wrong, old, clip=0.2).backward()
    assert wrong.grad is not None
    assert wrong.grad.tolist() == pytest.approx([-0.5 * math.exp(-0.3), 0.25 * math.exp(0.3)])


def test_the_preference_loss_by_hand() -> None:
    better, worse = torch.tensor(-1.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    loss = preference_loss(better, worse, -1.5, -2.0, beta=0.5)
    margin = 0.5 * ((-1.0 + 1.5) - (-3.0 + 2.0))
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-margin)))
    loss.backward()
    assert better.grad is not None and worse.grad is not None
    assert float(better.grad) == pytest.approx(-0.5 / (1 + math.exp(margin)))
    assert float(worse.grad) == pytest.approx(0.5 / (1 + math.exp(margin)))
