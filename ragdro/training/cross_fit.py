"""Cross-fitting: the generator that weights a question's permutations has not been fitted to it.

In: two folds, each a generator of its own from the same base, warmed up and fitted on half of the questions.
Out: scores of every question from the other half's generator. One that knows the answers of its training
questions by heart finds every permutation equally good, and the selector learns nothing from it. The
generator of the trained pair is fitted to all questions, and scores none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ragdro.config import Config
from ragdro.generation.generator import Generator
from ragdro.profiling import phase
from ragdro.rag import Rag
from ragdro.selection.selector import Draw
from ragdro.training.e_step import Scores, answer_log_likelihoods
from ragdro.training.m_step import Keeper, Weighted, fit
from ragdro.training.variants import Fold, held_out
from ragdro.training.warmup import KeeperOf, warm_up
from ragdro.types import Task

_FOLD = 17
"""Sets the folds' random numbers apart from the pair's."""


def warm_up_folds(
    folds: Sequence[Fold], rag: Rag, tasks: Sequence[Task], config: Config, keeper: KeeperOf
) -> None:
    """Each fold's warm-up of the generator, on its own questions."""
    settings = config.warm_up.model_copy(update={"selector": None})
    for number, fold in enumerate(folds):
        mine = [tasks[i] for i in fold.own(tasks)]
        if mine:
            rng = np.random.default_rng([config.seed, _FOLD, number])
            with fold.in_place():
                warm_up(rag.selector, rag.generator, mine, settings, rng, partial(_named, keeper, fold.name))


def fit_folds(
    folds: Sequence[Fold],
    tasks: Sequence[Task],
    answer: Callable[[int], Weighted],
    config: Config,
    iteration: int,
    keeper: KeeperOf,
) -> None:
    """Each fold's M-step of the generator; `answer` builds what question i asks of it."""
    for number, fold in enumerate(folds):
        mine = fold.own(tasks)
        if mine:
            rng = np.random.default_rng([config.seed, _FOLD, number, iteration])
            with fold.in_place(), phase("generator update"):
                fit(
                    fold.model,
                    len(mine),
                    lambda i, mine=mine: answer(mine[i]),  # type: ignore[misc]
                    config.m_step.generator,
                    rng,
                    keeper(fold.name),
                )


def held_out_log_likelihoods(
    folds: Sequence[Fold],
    generator: Generator,
    tasks: Sequence[Task],
    draws: Sequence[Sequence[Draw]],
    tokens_per_batch: int,
) -> Scores:
    """log p(y|x,d_z) of each question under the fold that has not been fitted to it."""

    def compute(chosen: Sequence[int]) -> Scores:
        return answer_log_likelihoods(
            generator, [tasks[i] for i in chosen], [draws[i] for i in chosen], tokens_per_batch
        )

    return held_out(folds, tasks, compute)


def _named(keeper: KeeperOf, name: str, role: str) -> Keeper:
    return keeper(name)
