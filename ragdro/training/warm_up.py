"""The warm-up: supervised fine-tuning of both models before the loop.

In: questions with candidates. Out: a selector that lists as a teacher does, a generator that answers from
what the teacher selects (`teachers`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import WarmUp
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import SequenceGroup
from ragdro.profiling import phase
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.training.m_step import FitObserver, fit
from ragdro.training.teachers import Orders, teacher_permutation, tied_lists
from ragdro.types import Task

ObserverOf = Callable[[str], FitObserver]
"""From a role to what watches and saves its fit."""


def warm_up(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    settings: WarmUp,
    rng: np.random.Generator,
    observe: ObserverOf = lambda role: FitObserver(),
    orders: Orders | None = None,
) -> None:
    """Fine-tune both models on the teacher's permutations; a role whose settings are None is left alone.
    `orders`: those of a teacher that is a model (`teachers.model_orders`)."""
    stop, known = selector.stop, orders or {}
    teacher = [
        teacher_permutation(t, selector.k, settings.teacher, stop=stop, order=known.get(t.question.id))
        for t in tasks
    ]
    whole = settings.loss == "all_tokens"

    def selection(i: int) -> TrainingExample:
        name = tasks[i].question.id
        ranked = name in known or (settings.teacher == "auto" and tasks[i].question.ranking is not None)
        if selector.kind == "pointer" and not ranked:
            lists = tied_lists(tasks[i], selector.k, settings.teacher)
            return TrainingExample(name, selector.group(tasks[i], lists), (1 / len(lists),) * len(lists))
        return TrainingExample(name, selector.taught(tasks[i], teacher[i], whole=whole), (1.0,))

    def answer(reader: Generator, i: int) -> TrainingExample:
        sequence = reader.scored(reading(tasks[i], reader.ordered(teacher[i])))
        group = SequenceGroup.of([sequence.whole() if whole else sequence])
        return TrainingExample(tasks[i].question.id, group, (1.0,))

    if settings.selector is not None:
        with phase("selector update"):
            fit(selector.model, len(tasks), selection, settings.selector, rng, observe("selector"))
    if settings.generator is not None:
        with phase("generator update"):
            answers = [partial(answer, reader) for reader in generator.turns]
            fit(generator.model, len(tasks), answers, settings.generator, rng, observe("generator"))
