"""What an objective makes of a question's weighted samples: the sequences that each model is fitted to, their
weights, and the loss.

In: the objective's settings and a `WeightedTask`. Out: `Weighted`, the M-step's unit. The formulas themselves
are in `objectives.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ragdro.config import Dpo, DroCentered, DroTempered, Objective, Rloo
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import SequenceGroup
from ragdro.selection.selector import Selector
from ragdro.training import objectives
from ragdro.training.e_step import WeightedTask, reading
from ragdro.training.m_step import Weighted
from ragdro.types import Permutation, WeightedSample


def importance_weights(objective: Objective) -> objectives.Weigh:
    """How the E-step turns log ratios into weights."""
    if isinstance(objective, DroTempered):
        return partial(objectives.tempered_weights, floor=objective.floor)
    return objectives.importance_weights


def selections(objective: Objective, selector: Selector, weighted: WeightedTask) -> Weighted:
    """What the selector learns from a question."""
    samples, name = weighted.samples, weighted.task.question.id
    if isinstance(objective, Dpo):
        samples = best_and_worst(samples)
        group = selector.group(weighted.task, [s.permutation for s in samples])
        if len(samples) == 1:
            return Weighted(name, group, (0.0,))
        reference = [s.log_prior for s in samples]
        return Weighted(
            name, group, (1.0, 1.0), partial(_preference, reference=reference, beta=objective.beta)
        )
    group = selector.group(weighted.task, [s.permutation for s in samples])
    if isinstance(objective, DroCentered | Rloo):
        sampled = torch.tensor([s.log_prior for s in samples], dtype=torch.float32)
        loss = partial(_clipped, sampled=sampled, clip=objective.clip)
        return Weighted(name, group, _advantages(objective, samples), loss)
    return Weighted(name, group, tuple(s.weight for s in samples))


def answers(objective: Objective, generator: Generator, weighted: WeightedTask) -> Weighted:
    """What the generator learns from a question."""
    samples = weighted.samples
    if isinstance(objective, Dpo) and objective.generator == "dpo":
        return _own_answer_against_gold(objective, generator, weighted)
    if isinstance(objective, Dpo):
        samples = best_and_worst(samples)[:1]
        weights: tuple[float, ...] = (1.0,)
    elif isinstance(objective, Rloo):
        weights = tuple(s.count / _drawn(samples) for s in samples)
    else:
        weights = tuple(s.weight for s in samples)
    read: dict[Permutation, float] = {}  # all orders of a set are one where it is read as one
    for sample, weight in zip(samples, weights, strict=True):
        z = generator.ordered(sample.permutation)
        read[z] = read.get(z, 0.0) + weight
    group = generator.group([reading(weighted.task, z) for z in read])
    return Weighted(weighted.task.question.id, group, tuple(read.values()))


def _own_answer_against_gold(objective: Dpo, generator: Generator, weighted: WeightedTask) -> Weighted:
    """The gold answer against a wrong one of the generator's, both from the best permutation; where it had
    none that was wrong there is nothing to learn."""
    name, wrong = weighted.task.question.id, weighted.rejected
    best = reading(weighted.task, generator.ordered(best_and_worst(weighted.samples)[0].permutation))
    if wrong is None:
        return Weighted(name, generator.group([best]), (0.0,))
    group = SequenceGroup.of([generator.scored(best), generator.scored(best, wrong.answer)])
    reference = [wrong.gold_log_prob, wrong.log_prob]
    return Weighted(name, group, (1.0, 1.0), partial(_preference, reference=reference, beta=objective.beta))


def _drawn(samples: tuple[WeightedSample, ...]) -> int:
    return sum(s.count for s in samples)


def _advantages(objective: DroCentered | Rloo, samples: tuple[WeightedSample, ...]) -> tuple[float, ...]:
    """One for each distinct permutation: the sum over its draws."""
    if isinstance(objective, DroCentered):
        return tuple(s.weight - s.count / _drawn(samples) for s in samples)
    of = [s.log_likelihood if s.reward is None else s.reward for s in samples for _ in range(s.count)]
    rewards = torch.tensor([of], dtype=torch.float64)
    of_draws = iter(objectives.leave_one_out(rewards)[0].tolist())
    return tuple(sum(next(of_draws) for _ in range(s.count)) for s in samples)


def best_and_worst(samples: tuple[WeightedSample, ...]) -> tuple[WeightedSample, ...]:
    """The samples under which the answer is likeliest and least likely; one alone where all are alike."""
    ordered = sorted(samples, key=_by_likelihood)
    best, worst = ordered[-1], ordered[0]
    return (best,) if best.log_likelihood == worst.log_likelihood else (best, worst)


def _by_likelihood(sample: WeightedSample) -> tuple[float, Permutation]:
    return sample.log_likelihood, sample.permutation


def _clipped(advantages: Tensor, log_probs: Tensor, *, sampled: Tensor, clip: float) -> Tensor:
    return objectives.clipped_loss(advantages, log_probs, sampled.to(log_probs.device), clip)


def _preference(weights: Tensor, log_probs: Tensor, *, reference: list[float], beta: float) -> Tensor:
    return objectives.preference_loss(log_probs[0], log_probs[1], reference[0], reference[1], beta)
