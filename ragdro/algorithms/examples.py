"""What a fit learns from one question, and the two examples that most objectives make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragdro.algorithms.losses import Loss, weighted_loss
from ragdro.generation.generator import Generator
from ragdro.lm.groups import ScoredGroup
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.types import Permutation, WeightedTask


@dataclass(frozen=True, slots=True, eq=False)
class TrainingExample:
    """What of one question is scored, a weight for each of its log-probabilities, and what `loss` makes of
    (weights, log-probabilities)."""

    question_id: str
    group: ScoredGroup
    weights: tuple[float, ...]
    loss: Loss = weighted_loss

    @property
    def compares(self) -> bool:
        """Whether the loss compares log-probabilities with stored ones, which were taken without dropout."""
        return self.loss is not weighted_loss


def list_example(
    selector: Selector, weighted: WeightedTask, weights: Sequence[float], loss: Loss = weighted_loss
) -> TrainingExample:
    """The selector's: every permutation drawn, with a weight each."""
    group = selector.group(weighted.task, [s.permutation for s in weighted.samples])
    return TrainingExample(weighted.task.question.id, group, tuple(weights), loss)


def answer_example(generator: Generator, weighted: WeightedTask, weights: Sequence[float]) -> TrainingExample:
    """The generator's: the gold answer under every permutation drawn. What is read alike (all orders of a
    set, where passages are read by rank) is one sequence with the sum of the weights."""
    by_reading: dict[Permutation, float] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        z = generator.ordered(sample.permutation)
        by_reading[z] = by_reading.get(z, 0.0) + weight
    group = generator.group([reading(weighted.task, z) for z in by_reading])
    return TrainingExample(weighted.task.question.id, group, tuple(by_reading.values()))
