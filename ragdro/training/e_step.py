"""The E-step: sample permutations from the selector and weight them by the generator.

In: both models and questions with candidates. Out: for each question its distinct permutations with
importance weights (`WeightedSample`) and what the samples say about the fit: the m-sample bound and the
effective sample size. Every random number is a function of (seed, stream, question id), so a question's
samples depend on nothing that is computed beside it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ragdro.generation.generator import Generator, Reading
from ragdro.lm.scoring import score_all
from ragdro.profiling import phase
from ragdro.selection.selector import Draw, Selector
from ragdro.training import objectives
from ragdro.types import Permutation, Task, WeightedSample

QUESTIONS_PER_SHARD = 256
"""Questions sampled and scored together: what is in memory at once, and what progress counts."""


@dataclass(frozen=True, slots=True)
class WeightedTask:
    """A question with its weighted samples; `bound` in nats, `effective_sample_size` between 1 and m."""

    task: Task
    samples: tuple[WeightedSample, ...]
    bound: float
    effective_sample_size: float
    impossible: bool


def e_step(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    *,
    samples: int,
    temperature: float,
    tokens_per_batch: int,
    seed: int,
    stream: int,
    advance: Callable[[int], None] = lambda done: None,
) -> list[WeightedTask]:
    """Draw and weight `samples` permutations for each question; `advance` is told how many are done.

    `stream` sets apart draws that must not share random numbers (an iteration's number, for instance).
    """
    weighted: list[WeightedTask] = []
    for start in range(0, len(tasks), QUESTIONS_PER_SHARD):
        shard = tasks[start : start + QUESTIONS_PER_SHARD]
        uniforms = [
            _uniforms(task.question.id, seed, stream, (samples, selector.choices_per_list)) for task in shard
        ]
        draws = selector.sample(shard, uniforms, temperature=temperature, tokens_per_batch=tokens_per_batch)
        scores = _answer_log_likelihoods(generator, shard, draws, tokens_per_batch)
        weighted += [_weigh(t, d, s) for t, d, s in zip(shard, draws, scores, strict=True)]
        advance(len(shard))
    return weighted


@phase("score")
def _answer_log_likelihoods(
    generator: Generator, tasks: Sequence[Task], draws: Sequence[Sequence[Draw]], tokens_per_batch: int
) -> list[dict[Permutation, float]]:
    """log p(y|x,d_z) of each question's distinct permutations: one drawn twice is scored once."""
    distinct = [list(dict.fromkeys(d.permutation for d in drawn)) for drawn in draws]
    groups = [
        generator.group([reading(task, z) for z in lists])
        for task, lists in zip(tasks, distinct, strict=True)
    ]
    scores = score_all(generator.model, groups, tokens_per_batch)
    return [dict(zip(lists, values, strict=True)) for lists, values in zip(distinct, scores, strict=True)]


def reading(task: Task, permutation: Permutation) -> Reading:
    """The question with the passages that a permutation selects, in its order."""
    return Reading(task.question, tuple(task.candidates.passages[i] for i in permutation))


def _weigh(task: Task, draws: Sequence[Draw], scores: dict[Permutation, float]) -> WeightedTask:
    ratios = objectives.log_ratios(
        torch.tensor([[scores[d.permutation] for d in draws]], dtype=torch.float64),
        torch.tensor([[d.log_prior for d in draws]], dtype=torch.float64),
        torch.tensor([[d.log_proposal for d in draws]], dtype=torch.float64),
    )
    weights = objectives.importance_weights(ratios)
    shares: Counter[Permutation] = Counter()
    for draw, weight in zip(draws, weights[0].tolist(), strict=True):
        shares[draw.permutation] += weight
    counts = Counter(d.permutation for d in draws)
    first = {d.permutation: d for d in reversed(draws)}
    samples = tuple(
        WeightedSample(z, counts[z], first[z].log_proposal, first[z].log_prior, scores[z], shares[z])
        for z in first
    )
    return WeightedTask(
        task,
        samples,
        float(objectives.bound(ratios)),
        float(objectives.effective_sample_size(weights)),
        bool(objectives.impossible(ratios)),
    )


def _uniforms(question_id: str, seed: int, stream: int, shape: tuple[int, int]) -> np.ndarray:
    """[samples, choices] numbers in [0, 1) that belong to this question in this stream."""
    return np.random.default_rng([seed, stream, zlib.crc32(question_id.encode())]).random(shape)
