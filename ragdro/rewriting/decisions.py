"""The decisions of a question's samples: where each was made, with the weights of all samples that made it.

In: a `WeightedTask` and a weight for each of its samples. Out: the lists, or the queries, by what they were
decided from. Of samples without a path the permutations are the decisions, made from the question's
candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ragdro.generation.reading import Reading
from ragdro.lm.scoring import score_all
from ragdro.rewriting.paths import decisions
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.selector import Selector
from ragdro.types import Candidates, Task, WeightedSample, WeightedTask

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
    decided: dict[object, Decided] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        if sample.path is None:
            decided.setdefault(None, Decided(weighted.task)).add(sample.permutation, weight, sample.log_prior)
            continue
        for number, (task, one) in enumerate(decisions(weighted.task, sample.path), start=1):
            if one.permutation:
                _at(decided, task, number).add(one.permutation, weight, one.log_list)
    return list(decided.values())


def queries_of(weighted: WeightedTask, weights: Sequence[float]) -> list[Decided]:
    """The queries that were written, by what was read before."""
    decided: dict[object, Decided] = {}
    for sample, weight in zip(weighted.samples, weights, strict=True):
        assert sample.path is not None
        for number, (task, one) in enumerate(decisions(weighted.task, sample.path), start=1):
            if one.tokens:
                asked = Task(task.question, Candidates(task.question.id, ()), task.read)
                _at(decided, asked, number).add(one.tokens, weight, one.log_query)
    return list(decided.values())


def path_log_priors(
    selector: Selector, rewriter: Rewriter, weighted: Sequence[WeightedTask], max_tokens: int
) -> list[list[float]]:
    """log p(h|x) (nats) of each question's paths under the models as they are: each decision is scored once,
    however many paths made it."""
    nothing = [[0.0] * len(w.samples) for w in weighted]
    chosen = [lists_of(w, none) for w, none in zip(weighted, nothing, strict=True)]
    asked = [queries_of(w, none) for w, none in zip(weighted, nothing, strict=True)]
    lists = [selector.in_round(d.number).group(d.task, [*d.weights]) for own in chosen for d in own]
    queries = [
        rewriter.group(Reading(d.task.question, d.task.read), [*d.weights]) for own in asked for d in own
    ]
    of_lists = iter(score_all(selector.model, lists, max_tokens))
    of_queries = iter(score_all(rewriter.model, queries, max_tokens))
    result = []
    for w, own_lists, own_queries in zip(weighted, chosen, asked, strict=True):
        known: dict[tuple[object, Choice], float] = {}
        for own, scores in ((own_lists, of_lists), (own_queries, of_queries)):
            for decided in own:
                key = _key(decided.task, decided.number), own is own_lists
                known.update(
                    ((key, z), log_p) for z, log_p in zip(decided.weights, next(scores), strict=True)
                )
        result.append([_log_prior(w.task, sample, known) for sample in w.samples])
    return result


def _log_prior(task: Task, sample: WeightedSample, known: Mapping[tuple[object, Choice], float]) -> float:
    assert sample.path is not None
    total = 0.0
    for number, (asked_of, one) in enumerate(decisions(task, sample.path), start=1):
        if one.tokens:
            asked = Task(asked_of.question, Candidates(asked_of.question.id, ()), asked_of.read)
            total += known[(_key(asked, number), False), one.tokens]
        if one.permutation:
            total += known[(_key(asked_of, number), True), one.permutation]
    return total


def _at(decided: dict[object, Decided], task: Task, number: int) -> Decided:
    return decided.setdefault(_key(task, number), Decided(task, number))


def _key(task: Task, number: int) -> tuple[object, ...]:
    return number, tuple(p.id for p in task.read), tuple(p.id for p in task.candidates.passages)
