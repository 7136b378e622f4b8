"""What a list was worth: the reward of each sample of a question, by a generator that has not been fitted to
it where there is cross-fitting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from ragdro.types import WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.base import Labeller

Reward: TypeAlias = Literal["log_likelihood", "exact_match", "f1"]
"""log p(y|x,d_z) of the gold answer, or a metric of the generator's greedy answer."""


def rewards_of(weighted: Sequence[WeightedTask], reward: Reward, labeller: Labeller) -> list[list[float]]:
    """The reward of every sample, a row a question."""
    if reward == "log_likelihood":
        return [[s.log_likelihood for s in w.samples] for w in weighted]
    from ragdro.evaluation.metrics import exact_match, f1
    from ragdro.system import reading

    metric, generator = exact_match if reward == "exact_match" else f1, labeller.generator

    def compute(places: Sequence[int]) -> list[list[float]]:
        chosen = [weighted[i] for i in places]
        readings = [
            reading(w.task, generator.ordered(s.permutation, s.path), s.thought)
            for w in chosen
            for s in w.samples
        ]
        answers = iter(generator.answer_many(readings, labeller.max_tokens))
        return [[metric(next(answers), w.task.question.answers) for _ in w.samples] for w in chosen]

    return labeller.held_out([w.task for w in weighted], compute)
