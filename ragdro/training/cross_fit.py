"""Cross-fitting: the generator that weights a question's permutations has not been fitted to it.

In: two folds, each a generator of its own from the same base, warmed up and fitted on half of the questions.
Out: scores of every question from the other half's generator. One that has memorised the answers of its
training questions finds every permutation equally good, and the selector learns nothing from it. The
generator of the trained pair is fitted to all questions, and scores none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from ragdro.config.training import TrainingSettings
from ragdro.generation.generator import Generator
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import WeightSnapshot
from ragdro.profiling import phase
from ragdro.training.e_step import Scores, answer_log_likelihoods
from ragdro.training.lessons import Lesson
from ragdro.training.m_step import Build, fit
from ragdro.training.warm_up import ObserverOf, teach_answers
from ragdro.types import Draw, Task

T = TypeVar("T")
FOLDS = ("generator-fold-1", "generator-fold-2")
_FOLD = 17
"""Sets the folds' random numbers apart from the pair's."""


class Fold(WeightSnapshot):
    """A generator for cross-fitting: fitted to every second training question, it scores the others."""

    def __init__(self, name: str, model: LanguageModel, questions: Sequence[str]) -> None:
        super().__init__(name, model)
        self._questions = frozenset(questions)

    def fitted_to(self, tasks: Sequence[Task]) -> list[int]:
        """Which of the questions it is fitted to."""
        return [i for i, task in enumerate(tasks) if task.question.id in self._questions]


def folds_of(model: LanguageModel, tasks: Sequence[Task]) -> list[Fold]:
    """Both folds, as `model` is now."""
    ids = [task.question.id for task in tasks]
    return [Fold(name, model, ids[i::2]) for i, name in enumerate(FOLDS)]


def warm_up_folds(
    folds: Sequence[Fold],
    generator: Generator,
    taught: Sequence[Lesson],
    settings: TrainingSettings,
    observe: ObserverOf,
) -> None:
    """Each fold's warm-up of the generator, on its own questions; `taught`: the pair's, of `warm_up`."""
    for number, fold in enumerate(folds):
        own = [taught[i] for i in fold.fitted_to([lesson.task for lesson in taught])]
        if own:
            rng = np.random.default_rng([settings.seed, _FOLD, number])
            with fold.swap_in():
                teach_answers(generator, own, settings.warm_up, rng, observe(fold.name))


def fit_folds(
    folds: Sequence[Fold],
    tasks: Sequence[Task],
    builds: Sequence[Build],
    settings: TrainingSettings,
    iteration: int,
    observe: ObserverOf,
) -> None:
    """Each fold's M-step of the generator; `builds` make the generator's example of question i, in turn."""
    for number, fold in enumerate(folds):
        own = fold.fitted_to(tasks)
        if own:
            rng = np.random.default_rng([settings.seed, _FOLD, number, iteration])
            with fold.swap_in(), phase("generator update"):
                fit(
                    fold.model,
                    len(own),
                    [lambda i, own=own, build=build: build(own[i]) for build in builds],  # type: ignore[misc]
                    settings.m_step.generator,
                    rng,
                    observe(fold.name),
                )


def held_out_log_likelihoods(
    folds: Sequence[Fold],
    generator: Generator,
    tasks: Sequence[Task],
    draws: Sequence[Sequence[Draw]],
    max_tokens: int,
) -> Scores:
    """log p(y|x,d_z) of each question's draws under the fold that has not been fitted to it."""

    def compute(chosen: Sequence[int]) -> Scores:
        return answer_log_likelihoods(
            generator, [tasks[i] for i in chosen], [draws[i] for i in chosen], max_tokens
        )

    return held_out(folds, tasks, compute)


def held_out(
    folds: Sequence[Fold], tasks: Sequence[Task], compute: Callable[[Sequence[int]], Sequence[T]]
) -> list[T]:
    """`compute` of all questions, given by their places, each while the generator in place is the fold that
    has not been fitted to it (without folds: the generator as it is)."""
    if not folds:
        return list(compute(range(len(tasks))))
    results: dict[int, T] = {}
    for fold in folds:
        own = set(fold.fitted_to(tasks))
        others = [i for i in range(len(tasks)) if i not in own and i not in results]
        if others:
            with fold.swap_in():
                results.update(zip(others, compute(others), strict=True))
    return [results[i] for i in range(len(tasks))]
