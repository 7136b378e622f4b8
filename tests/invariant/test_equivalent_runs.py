"""Runs that must agree: however the work is cut up, one curve comes out."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import pytest
import torch
from torch.optim import AdamW

from ragdro.algorithms import Dro
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import EStep, Optimisation
from ragdro.lm.groups import ScoredGroup
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import trained_parameters
from ragdro.system import reading
from ragdro.training.e_step import e_step
from ragdro.training.m_step import FitObserver, Update, fit
from ragdro.training.proposals import proposals
from ragdro.types import WeightedTask
from tests.worlds import pocket_rag, pocket_tasks

Attention: TypeAlias = Literal["full", "blocks"]


class Losses(FitObserver):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def taken(self, update: Update, optimiser: AdamW) -> None:
        self.losses.append(update.loss)


def weighted_tasks(kind: str, attention: Attention) -> list[WeightedTask]:
    rag = pocket_rag(kind=kind, passage_attention=attention)
    propose = proposals(Dro(), EStep(samples=6), 0, 1)
    return e_step(rag.selector, rag.generator, pocket_tasks(8, 5), propose=propose, max_tokens=4000)


def curve(
    role: str, *, max_tokens: int = 8000, shared: bool | None = None, backwards: bool = False
) -> tuple[list[float], LanguageModel]:
    """Losses of six updates of one role ('pointer': a selector of that kind, 'blocks': a generator that reads
    passages so)."""
    kind = "pointer" if role == "pointer" else "list"
    attention: Attention = "blocks" if role == "blocks" else "full"
    weighted, rag = weighted_tasks(kind, attention), pocket_rag(kind=kind, passage_attention=attention)
    of_generator = role in ("generator", "blocks")
    model = rag.generator.model if of_generator else rag.selector.model
    model.shares_prefixes = model.shares_blocks = shared

    def build(i: int) -> TrainingExample:
        samples = weighted[i].samples[::-1] if backwards else weighted[i].samples
        if not of_generator:
            group: ScoredGroup = rag.selector.group(weighted[i].task, [s.permutation for s in samples])
        else:
            group = rag.generator.group([reading(weighted[i].task, s.permutation) for s in samples])
        return TrainingExample(weighted[i].task.question.id, group, tuple(s.weight for s in samples))

    settings = Optimisation(
        learning_rate=1e-3,
        epochs=6,
        batch_size=8,
        max_tokens_per_micro_batch=max_tokens,
        max_grad_norm=100,
    )
    observer = Losses()
    fit(model, len(weighted), build, settings, np.random.default_rng(0), observer)
    return observer.losses, model


def weights(model: LanguageModel) -> list[torch.nn.Parameter]:
    return list(trained_parameters(model).values())


@pytest.mark.parametrize("role", ["selector", "generator", "pointer", "blocks"])
@pytest.mark.parametrize("other", [{"max_tokens": 1}, {"shared": False}, {"backwards": True}])
def test_one_curve(role: str, other: dict[str, object]) -> None:
    """A batch of 8 against 8 of one question; shared prefix against none; samples in another order."""
    losses, model = curve(role)
    again, same = curve(role, **other)  # type: ignore[arg-type]
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert again == pytest.approx(losses, abs=1e-5 * max(losses))
    for a, b in zip(*map(weights, (model, same)), strict=True):
        assert torch.allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("role", ["selector", "pointer"])
def test_the_same_run_twice_is_the_same_bit_for_bit(role: str) -> None:
    first, second = curve(role), curve(role)
    assert first[0] == second[0]
    for a, b in zip(weights(first[1]), weights(second[1]), strict=True):
        assert torch.equal(a, b)
