"""The warm-up: supervised fine-tuning of both models before the loop.

In: questions with candidates. Out: a selector that lists as a teacher does, a generator that answers from
what the teacher selects. The teacher is the data's own ranking where it has one; elsewhere distant
supervision: passages that hold a gold answer first, then the retriever's order. A perfect teacher, for
studies, puts the passages labelled as gold first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import WarmUp
from ragdro.errors import ConfigError
from ragdro.evaluation.ranking import contains_answer
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import SequenceGroup
from ragdro.profiling import phase
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.training.m_step import FitObserver, fit
from ragdro.types import Permutation, Task

ObserverOf = Callable[[str], FitObserver]
"""From a role to what watches and saves its fit."""


def warm_up(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    settings: WarmUp,
    rng: np.random.Generator,
    observe: ObserverOf = lambda role: FitObserver(),
) -> None:
    """Fine-tune both models on the teacher's permutations; a role whose settings are None is left alone."""
    teacher = [teacher_permutation(task, selector.k, settings.teacher, stop=selector.stop) for task in tasks]
    whole = settings.loss == "all_tokens"

    def selection(i: int) -> TrainingExample:
        group = selector.taught(tasks[i], teacher[i], whole=whole)
        return TrainingExample(tasks[i].question.id, group, (1.0,))

    def answer(i: int) -> TrainingExample:
        sequence = generator.scored(reading(tasks[i], generator.ordered(teacher[i])))
        group = SequenceGroup.of([sequence.whole() if whole else sequence])
        return TrainingExample(tasks[i].question.id, group, (1.0,))

    if settings.selector is not None:
        with phase("selector update"):
            fit(selector.model, len(tasks), selection, settings.selector, rng, observe("selector"))
    if settings.generator is not None:
        with phase("generator update"):
            fit(generator.model, len(tasks), answer, settings.generator, rng, observe("generator"))


def teacher_permutation(task: Task, k: int, teacher: str = "auto", *, stop: bool = False) -> Permutation:
    """The K candidates that the teacher puts first (all, where there are fewer); `teacher` is
    `warm_up.teacher`. With `stop`, as many of them as it names, one at least: those that it ranks, that are
    gold, or that hold an answer.

    Raises `ConfigError` for a question without gold passages where the gold ones are the teacher.
    """
    passages = task.candidates.passages
    if teacher == "gold":
        gold = {passage.content: rank for rank, passage in enumerate(task.question.gold_passages)}
        if not gold:
            raise ConfigError(f"warm_up.teacher: question '{task.question.id}' has no passages labelled gold")
        ranks = [gold.get(p.content, len(gold)) for p in passages]
        named = sum(rank < len(gold) for rank in ranks)
    elif teacher == "auto" and task.question.ranking is not None:
        place = {passage_id: rank for rank, passage_id in enumerate(task.question.ranking)}
        ranks = [place.get(p.id, len(place)) for p in passages]
        named = sum(rank < len(place) for rank in ranks)
    else:
        ranks = [int(not contains_answer(p.text, task.question.answers)) for p in passages]
        named = ranks.count(0)
    order = sorted(range(len(passages)), key=lambda i: ranks[i])
    return tuple(order[: min(k, max(1, named)) if stop else k])
