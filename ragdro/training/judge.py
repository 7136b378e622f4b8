"""What an objective wants of the E-step's samples besides their weights: rewards, and answers to reject.

In: the config, the system, what is kept beside it. Out: a `Judge`, which fills in `WeightedSample.reward` and
`WeightedTask.rejected`. Answers are greedy; a question's rewards come from a generator that has not been
fitted to it, where there is cross-fitting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from ragdro.config import Config, Dpo, Rloo
from ragdro.evaluation.metrics import exact_match, f1
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.profiling import phase
from ragdro.rag import Rag
from ragdro.selection.selector import Selector
from ragdro.training.e_step import Judge, Rejected, WeightedTask, reading
from ragdro.training.objectives import penalised
from ragdro.training.targets import best_and_worst
from ragdro.training.variants import REFERENCE, Fold, Variant, held_out


def judge(config: Config, rag: Rag, variants: Mapping[str, Variant]) -> Judge | None:
    """What `config.objective` wants; None: nothing."""
    objective, tokens = config.objective, config.e_step.tokens_per_batch
    folds = [v for v in variants.values() if isinstance(v, Fold)]
    if isinstance(objective, Rloo) and (objective.kl or objective.reward != "log_likelihood"):
        return partial(_reward, objective, rag, folds, variants.get(REFERENCE), tokens)
    if isinstance(objective, Dpo) and objective.generator == "dpo":
        return partial(_reject, rag.generator, tokens)
    return None


@phase("score")
def _reward(
    objective: Rloo,
    rag: Rag,
    folds: Sequence[Fold],
    reference: Variant | None,
    tokens_per_batch: int,
    weighted: Sequence[WeightedTask],
) -> list[WeightedTask]:
    """The reward of every sample, less what its distance from the reference costs."""
    if objective.reward == "log_likelihood":
        rewards = [[s.log_likelihood for s in w.samples] for w in weighted]
    else:
        metric = exact_match if objective.reward == "exact_match" else f1

        def compute(chosen: Sequence[int]) -> list[list[float]]:
            answers = _answers(rag.generator, [weighted[i] for i in chosen], tokens_per_batch)
            golds = [weighted[i].task.question.answers for i in chosen]
            return [[metric(a, gold) for a in of] for of, gold in zip(answers, golds, strict=True)]

        rewards = held_out(folds, [w.task for w in weighted], compute)
    if reference is not None:
        with reference.in_place():
            held = _log_priors(rag.selector, weighted, tokens_per_batch)
        priors = [[s.log_prior for s in w.samples] for w in weighted]
        rewards = [_less(objective.kl, *columns) for columns in zip(rewards, priors, held, strict=True)]
    return [
        replace(w, samples=tuple(replace(s, reward=r) for s, r in zip(w.samples, rs, strict=True)))
        for w, rs in zip(weighted, rewards, strict=True)
    ]


@phase("score")
def _reject(
    generator: Generator, tokens_per_batch: int, weighted: Sequence[WeightedTask]
) -> list[WeightedTask]:
    """The answer from the worst permutation, where it is wrong, with log-probabilities from the best one."""
    extremes = [best_and_worst(w.samples) for w in weighted]
    worst = [
        reading(w.task, generator.ordered(of[-1].permutation))
        for w, of in zip(weighted, extremes, strict=True)
    ]
    answers = generator.answer_many(worst, tokens_per_batch)
    wrong = [i for i, w in enumerate(weighted) if not exact_match(answers[i], w.task.question.answers)]
    groups = []
    for i in wrong:
        best = reading(weighted[i].task, generator.ordered(extremes[i][0].permutation))
        groups.append(SequenceGroup.of([generator.scored(best), generator.scored(best, answers[i])]))
    judged = list(weighted)
    for i, (gold, own) in zip(wrong, score_all(generator.model, groups, tokens_per_batch), strict=True):
        judged[i] = replace(weighted[i], rejected=Rejected(answers[i], own, gold))
    return judged


def _less(kl: float, rewards: list[float], log_prior: list[float], log_reference: list[float]) -> list[float]:
    rows = torch.tensor([rewards, log_prior, log_reference], dtype=torch.float64)[:, None]
    found: list[float] = penalised(rows[0], rows[1], rows[2], kl)[0].tolist()
    return found


def _answers(
    generator: Generator, weighted: Sequence[WeightedTask], tokens_per_batch: int
) -> list[list[str]]:
    """The greedy answer from each sample of each question."""
    readings = [reading(w.task, generator.ordered(s.permutation)) for w in weighted for s in w.samples]
    answers = iter(generator.answer_many(readings, tokens_per_batch))
    return [[next(answers) for _ in w.samples] for w in weighted]


def _log_priors(
    selector: Selector, weighted: Sequence[WeightedTask], tokens_per_batch: int
) -> list[list[float]]:
    """log p(z|x) of each sample under the selector as it is."""
    groups = [selector.group(w.task, [s.permutation for s in w.samples]) for w in weighted]
    return score_all(selector.model, groups, tokens_per_batch)
