"""The E-step: sample permutations from the selector and weight them by the generator.

In: both models and questions with candidates. Out: for each question its distinct permutations (or the paths
that led to them, where a question is asked more than once; each with a thought, where one comes before the
answer) with importance weights (`WeightedSample`) and
what the samples say about the fit: the m-sample bound and the effective sample size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TypeAlias

import torch

from ragdro.algorithms import weights
from ragdro.config import EStep
from ragdro.errors import TrainingError
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import score_all
from ragdro.parallel.world import local_shard, map_sharded
from ragdro.profiling import phase
from ragdro.rewriting.paths import pooled
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.training.prefetch import tokenised_meanwhile
from ragdro.training.proposals import Propose
from ragdro.training.thoughts import Think
from ragdro.types import Draw, Task, WeightedSample, WeightedTask

Shards: TypeAlias = Callable[[int, Sequence[Task], Callable[[], list[WeightedTask]]], list[WeightedTask]]
"""Takes a shard's number, its questions and how to weight them; returns them weighted, computed or saved."""

Label: TypeAlias = Callable[[Sequence[WeightedTask]], list[WeightedTask]]
"""Adds what an objective wants to know of the samples besides their weights."""
Scores: TypeAlias = list[list[float]]
"""log p(y|x,d_z) of each question's draws, in order (behind the thought of each, where it has one)."""
Score: TypeAlias = Callable[[Generator, Sequence[Task], Sequence[Sequence[Draw]], int], Scores]

QUESTIONS_PER_SHARD: int = EStep.model_fields["questions_per_shard"].default


def e_step(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    *,
    propose: Propose,
    max_tokens: int,
    weigh: weights.Weigh = weights.importance_weights,
    score: Score | None = None,
    label: Label | None = None,
    think: Think | None = None,
    selects: bool = True,
    questions_per_shard: int = QUESTIONS_PER_SHARD,
    shards: Shards = lambda number, tasks, compute: compute(),
) -> list[WeightedTask]:
    """Draw permutations for each question with `propose` and weight them with `weigh`.

    `max_tokens` bounds one forward pass; `score` is how p(y|x,d_z) is computed (None: by `generator` as it
    is), `think` draws what a generator that thinks writes before the answer. `selects`: whether `propose` has
    the selector read the questions. `questions_per_shard` are in memory at once, and `shards` sees each
    shard; processes share a shard out. What is read next is tokenised while this is computed.
    """

    assert generator.thinking is None or think is not None

    def measured(
        local_tasks: Sequence[Task], following: Sequence[Task]
    ) -> list[tuple[list[Draw], list[float]]]:
        with tokenised_meanwhile(generator, local_tasks):
            drawn = propose(selector, local_tasks)
        together = [_with_found(task, own) for task, own in zip(local_tasks, drawn, strict=True)]
        with tokenised_meanwhile(selector, local_shard(following)):
            if think is not None:
                drawn = think(generator, together, drawn)
            scores = (score or answer_log_likelihoods)(generator, together, drawn, max_tokens)
        return list(zip(drawn, scores, strict=True))

    def compute(shard: Sequence[Task], following: Sequence[Task]) -> list[WeightedTask]:
        results = map_sharded(shard, partial(measured, following=following))
        weighted = [_weigh(_with_found(t, d), d, s, weigh) for t, (d, s) in zip(shard, results, strict=True)]
        return weighted if label is None else list(map_sharded(weighted, label))

    weighted: list[WeightedTask] = []
    for number, start in enumerate(range(0, len(tasks), questions_per_shard)):
        end = start + questions_per_shard
        shard, following = tasks[start:end], tasks[end : end + questions_per_shard] if selects else ()
        weighted += shards(number, shard, partial(compute, shard, following))
    return weighted


@phase("score")
def answer_log_likelihoods(
    generator: Generator, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]], max_tokens: int
) -> Scores:
    """log p(y|x,d_z) of each question's draws: what is read alike is scored once."""
    keys = [[(generator.ordered(d.permutation, d.path), d.thought) for d in drawn] for drawn in draws]
    distinct = [list(dict.fromkeys(own)) for own in keys]
    groups = [
        generator.group([reading(task, *key) for key in own])
        for task, own in zip(tasks, distinct, strict=True)
    ]
    scores = score_all(generator.model, groups, max_tokens)
    tables = [dict(zip(own, values, strict=True)) for own, values in zip(distinct, scores, strict=True)]
    return [[table[key] for key in own] for table, own in zip(tables, keys, strict=True)]


def _weigh(task: Task, draws: Sequence[Draw], scores: Sequence[float], weigh: weights.Weigh) -> WeightedTask:
    if any(map(math.isnan, scores)):
        raise TrainingError(
            f"question '{task.question.id}': the generator's log-likelihood of the answer is not a number;"
            " try dtype=float32 or bfloat16 in place of float16, or a lower m_step.generator.learning_rate"
        )
    log_priors, log_proposals = zip(*map(_log_ps, draws), strict=True)
    columns = torch.tensor([[scores, log_priors, log_proposals]], dtype=torch.float64)
    ratios = weights.log_ratios(columns[:, 0], columns[:, 1], columns[:, 2])
    normalised = weigh(ratios)
    shares: Counter[Hashable] = Counter()
    for draw, weight in zip(draws, normalised[0].tolist(), strict=True):
        shares[draw.key] += weight
    counts = Counter(d.key for d in draws)
    first = {d.key: (d, score) for d, score in reversed(list(zip(draws, scores, strict=True)))}
    places = {key: i for i, key in enumerate(first)}
    samples = tuple(
        WeightedSample(
            d.permutation,
            counts[key],
            d.log_proposal,
            d.log_prior,
            score,
            shares[key],
            path=d.path,
            thought=d.thought,
        )
        for key, (d, score) in first.items()
    )
    return WeightedTask(
        task,
        samples,
        float(weights.bound(ratios)),
        float(weights.effective_sample_size(weights.importance_weights(ratios))),
        bool(weights.impossible(ratios)),
        tuple(places[d.key] for d in draws),
    )


def _log_ps(draw: Draw) -> tuple[float, float]:
    """log p and log q of all that was decided."""
    if draw.thought is None:
        return draw.log_prior, draw.log_proposal
    return draw.log_prior + draw.thought.log_prior, draw.log_proposal + draw.thought.log_proposal


def _with_found(task: Task, draws: Sequence[Draw]) -> Task:
    """The question with everything that its paths have found, where there are any."""
    paths = [draw.path for draw in draws if draw.path is not None]
    return pooled(task, paths)[0] if paths else task
