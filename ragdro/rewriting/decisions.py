"""The decisions of a question's samples: where each was made, with the weights of all samples that made it.

In: a `WeightedTask` and a weight for each of its samples. Out: the lists, or the queries, by what they were
decided from. Of samples without a path the permutations are the decisions, made from the question's
candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ragdro.rewriting.paths import decisions
from ragdro.types import Candidates, Task, WeightedTask

Choice = tuple[int, ...]
"""A permutation, or a query's tokens."""


@dataclass(slots=True)
class Decided:
    """What was decided from `task`, in round `number` (from 1): by choice its weight and its log-probability
    when drawn (nats)."""

    task: Task
    number: int = 1
    weights: dict[Choice, float] = field(default_factory=dict)
    log_priors: dict[Choice, float] = field(default_factory=dict)

    def add(self, choice: Choice, weight: float, log_prior: float) -> None:
        """A sample decided so."""
        self.weights[choice] = self.weights.get(choice, 0.0) + weight
        self.log_priors[choice] = log_prior


def lists_of(weighted: WeightedTask, weights: Sequence[float]) -> list[Decided]:
    """The lists, by what was read before and the candidates."""
    found: dict[object, Decided] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        if sample.path is None:
            found.setdefault(None, Decided(weighted.task)).add(sample.permutation, weight, sample.log_prior)
            continue
        for number, (task, one) in enumerate(decisions(weighted.task, sample.path), start=1):
            if one.permutation:
                _at(found, task, number).add(one.permutation, weight, one.log_list)
    return list(found.values())


def queries_of(weighted: WeightedTask, weights: Sequence[float]) -> list[Decided]:
    """The queries that were written, by what was read before."""
    found: dict[object, Decided] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        assert sample.path is not None
        for number, (task, one) in enumerate(decisions(weighted.task, sample.path), start=1):
            if one.tokens:
                asked = Task(task.question, Candidates(task.question.id, ()), task.read)
                _at(found, asked, number).add(one.tokens, weight, one.log_query)
    return list(found.values())


def _at(found: dict[object, Decided], task: Task, number: int) -> Decided:
    key = number, tuple(p.id for p in task.read), tuple(p.id for p in task.candidates.passages)
    return found.setdefault(key, Decided(task, number))
