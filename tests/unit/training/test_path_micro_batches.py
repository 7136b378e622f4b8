"""A question's prompts, one for each state of its paths, in micro-batches: one update however it is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ragdro.algorithms import Algorithm, Dro, DroCentered, Rloo
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Optimisation
from ragdro.lm.groups import JoinedGroup, log_probs
from ragdro.lm.model import LanguageModel
from ragdro.training.m_step import FitObserver, Update, fit
from tests.invariant.path_world import path_rag
from tests.invariant.test_paths import drawn


class _Last(FitObserver):
    """Keeps the update's loss, norm and tokens."""

    def __init__(self) -> None:
        self.loss, self.norm, self.tokens = 0.0, 0.0, 0

    def taken(self, update: Update, optimiser: Any) -> None:
        self.loss, self.norm, self.tokens = update.loss, update.gradient_norm, update.tokens


def example_of(algorithm: Algorithm, role: str) -> tuple[TrainingExample, LanguageModel]:
    rag = path_rag()
    weighted = drawn(rag, samples=12)
    assert rag.asking is not None
    if role == "selector":
        return algorithm.selector_example(rag.selector, weighted), rag.selector.model
    return algorithm.rewriter_example(rag.asking.rewriter, weighted), rag.asking.rewriter.model


@pytest.mark.parametrize("role", ["selector", "rewriter"])
@pytest.mark.parametrize("algorithm", [Dro(), DroCentered(), Rloo()], ids=lambda a: a.kind)
def test_the_parts_losses_and_gradients_add_up_in_float64(algorithm: Algorithm, role: str) -> None:
    example, model = example_of(algorithm, role)
    model.hf.double()
    assert isinstance(example.group, JoinedGroup)
    (values,) = log_probs(model, [example.group])
    moved = (values + 0.3 * torch.sin(torch.arange(len(values)))).double()  # some beyond the clip, some not
    moved = moved.detach().requires_grad_()
    whole = example.loss(torch.tensor(example.weights, dtype=torch.float64), moved)
    (expected,) = torch.autograd.grad(whole, moved)
    parts, losses, start = example.parts(), [], 0
    assert len(parts) == len(example.group.parts) > 2
    for part in parts:
        own = moved[start : start + part.group.scored]
        assert len(own) == len(part.weights) == part.group.scored
        losses.append(part.loss(torch.tensor(part.weights, dtype=torch.float64), own))
        start += len(own)
    assert start == len(values)
    (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), moved)
    assert torch.stack(losses).sum().item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(gradient, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("role", ["selector", "rewriter"])
def test_an_update_is_the_same_in_one_pass_and_in_many(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for max_tokens in (100_000, 150, 1):
        example, model = example_of(Dro(), role)
        model.shares_prefixes = True
        passes, hidden = [], type(model).tree_hidden
        with monkeypatch.context() as patch:
            patch.setattr(
                type(model),
                "tree_hidden",
                lambda self, tree, *rest, h=hidden, p=passes: p.append(len(tree)) or h(self, tree, *rest),
            )
            seen = _Last()
            settings = Optimisation(
                learning_rate=1e-3, batch_size=1, schedule="constant", max_tokens_per_micro_batch=max_tokens
            )
            fit(model, 1, lambda i, e=example: e, settings, np.random.default_rng(0), seen)
        parameters = torch.cat([p.detach().flatten() for p in model.hf.parameters()])
        found[max_tokens] = passes, seen.loss, seen.norm, seen.tokens, parameters
    (whole, loss, norm, tokens, parameters), (cut, *_), (each, *_) = found.values()
    assert whole == [tokens] and len(cut) < len(each) == len(example.parts())
    assert max(cut) <= 150 and sum(cut) == sum(each) == tokens
    for _, other, length, count, others in found.values():
        assert (other, length) == pytest.approx((loss, norm), rel=1e-6) and count == tokens
        assert float((others - parameters).abs().max()) < 2e-4  # a step of Adam is 1e-3


@pytest.mark.parametrize("max_tokens", [100_000, 1])
def test_a_loss_that_compares_stands_beside_one_that_adds_up(max_tokens: int) -> None:
    """As of one's own objective that prefers paths: a question of one path has nothing to compare."""
    added, model = example_of(Dro(), "selector")

    def compared(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return -torch.nn.functional.logsigmoid((weights * values).sum())

    beside = replace(added, loss=compared)
    assert len(added.parts()) > 2 and beside.parts() == [beside]
    with torch.no_grad():
        (values,) = log_probs(model, [added.group])
    weights = torch.tensor(added.weights)
    expected = (-(weights * values).sum() + compared(weights, values)) / 2
    seen = _Last()
    settings = Optimisation(learning_rate=1e-9, batch_size=2, max_tokens_per_micro_batch=max_tokens)
    fit(model, 2, lambda i: (added, beside)[i], settings, np.random.default_rng(0), seen)
    assert seen.loss == pytest.approx(float(expected), rel=1e-4)
