"""The E-step: sample permutations from the selector and weight them by the generator.

In: both models and questions with candidates. Out: for each question its distinct permutations with
importance weights (`WeightedSample`) and what the samples say about the fit: the m-sample bound and the
effective sample size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch

from ragdro.config import EStep
from ragdro.generation.generator import Generator, Reading
from ragdro.lm.scoring import score_all
from ragdro.parallel.world import in_parts
from ragdro.profiling import phase
from ragdro.selection.selector import Draw, Selector
from ragdro.training import objectives
from ragdro.training.proposals import Propose
from ragdro.types import Permutation, Task, WeightedSample


@dataclass(frozen=True, slots=True)
class Rejected:
    """A wrong answer of the generator's own, with its log-probability and the gold answer's (nats)."""

    answer: str
    log_prob: float
    gold_log_prob: float


@dataclass(frozen=True, slots=True)
class WeightedTask:
    """A question with its weighted samples; `bound` in nats, `effective_sample_size` between 1 and m.

    `drawn`: for each of the m draws, in order, which of the samples it was. `rejected`: what the generator
    is to prefer the gold answer to, where an objective asks for that.
    """

    task: Task
    samples: tuple[WeightedSample, ...]
    bound: float
    effective_sample_size: float
    impossible: bool
    drawn: tuple[int, ...] = ()
    rejected: Rejected | None = None


Shards: TypeAlias = Callable[[int, Sequence[Task], Callable[[], list[WeightedTask]]], list[WeightedTask]]
"""Takes a shard's number, its questions and how to weight them; returns them weighted, computed or saved."""

Judge: TypeAlias = Callable[[Sequence[WeightedTask]], list[WeightedTask]]
Scores: TypeAlias = list[dict[Permutation, float]]
"""log p(y|x,d_z) of each question's distinct permutations."""
Score: TypeAlias = Callable[[Generator, Sequence[Task], Sequence[Sequence[Draw]], int], Scores]

QUESTIONS_PER_SHARD: int = EStep.model_fields["questions_per_shard"].default


def e_step(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    *,
    propose: Propose,
    tokens_per_batch: int,
    weigh: objectives.Weigh = objectives.importance_weights,
    questions_per_shard: int = QUESTIONS_PER_SHARD,
    keep: Shards = lambda number, tasks, compute: compute(),
    score: Score | None = None,
    judge: Judge | None = None,
) -> list[WeightedTask]:
    """Draw permutations for each question with `propose` and weight them with `weigh`.

    `questions_per_shard` are in memory at once, and `keep` sees each shard; processes share a shard out.
    `score` is how p(y|x,d_z) is computed (None: by `generator` as it is), `judge` adds what an objective
    wants of the samples besides.
    """

    def measured(part: Sequence[Task]) -> list[tuple[list[Draw], dict[Permutation, float]]]:
        draws = propose(selector, part)
        scores = (score or answer_log_likelihoods)(generator, part, draws, tokens_per_batch)
        return list(zip(draws, scores, strict=True))

    def compute(shard: Sequence[Task]) -> list[WeightedTask]:
        found = in_parts(shard, measured)
        weighted = [_weigh(t, d, s, weigh) for t, (d, s) in zip(shard, found, strict=True)]
        return weighted if judge is None else list(in_parts(weighted, judge))

    weighted: list[WeightedTask] = []
    for number, start in enumerate(range(0, len(tasks), questions_per_shard)):
        shard = tasks[start : start + questions_per_shard]
        weighted += keep(number, shard, partial(compute, shard))
    return weighted


@phase("score")
def answer_log_likelihoods(
    generator: Generator, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]], tokens_per_batch: int
) -> Scores:
    """log p(y|x,d_z) of each question's distinct permutations: what is read alike is scored once."""
    distinct = [list(dict.fromkeys(generator.ordered(d.permutation) for d in drawn)) for drawn in draws]
    groups = [
        generator.group([reading(task, z) for z in lists])
        for task, lists in zip(tasks, distinct, strict=True)
    ]
    scores = score_all(generator.model, groups, tokens_per_batch)
    found = [dict(zip(lists, values, strict=True)) for lists, values in zip(distinct, scores, strict=True)]
    return [
        {d.permutation: of[generator.ordered(d.permutation)] for d in drawn}
        for of, drawn in zip(found, draws, strict=True)
    ]


def reading(task: Task, permutation: Permutation) -> Reading:
    """The question with the passages that a permutation selects, in its order."""
    return Reading(task.question, tuple(task.candidates.passages[i] for i in permutation))


def _weigh(
    task: Task, draws: Sequence[Draw], scores: dict[Permutation, float], weigh: objectives.Weigh
) -> WeightedTask:
    ratios = objectives.log_ratios(
        torch.tensor([[scores[d.permutation] for d in draws]], dtype=torch.float64),
        torch.tensor([[d.log_prior for d in draws]], dtype=torch.float64),
        torch.tensor([[d.log_proposal for d in draws]], dtype=torch.float64),
    )
    weights = weigh(ratios)
    shares: Counter[Permutation] = Counter()
    for draw, weight in zip(draws, weights[0].tolist(), strict=True):
        shares[draw.permutation] += weight
    counts = Counter(d.permutation for d in draws)
    first = {d.permutation: d for d in reversed(draws)}
    places = {z: at for at, z in enumerate(first)}
    samples = tuple(
        WeightedSample(z, counts[z], first[z].log_proposal, first[z].log_prior, scores[z], shares[z])
        for z in first
    )
    return WeightedTask(
        task,
        samples,
        float(objectives.bound(ratios)),
        float(objectives.effective_sample_size(objectives.importance_weights(ratios))),
        bool(objectives.impossible(ratios)),
        tuple(places[d.permutation] for d in draws),
    )
