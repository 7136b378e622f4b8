"""The warm-up: supervised fine-tuning of all models before the loop.

In: questions with candidates. Out: a selector that lists as a teacher does, a generator that answers from
what the teacher selects, and a rewriter, where there is one, that asks as the teacher does (`lessons`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ragdro.algorithms.examples import TrainingExample
from ragdro.config import WarmUp
from ragdro.generation.generator import Generator
from ragdro.lm.groups import JoinedGroup
from ragdro.lm.scoring import SequenceGroup
from ragdro.profiling import phase
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.rewriter import Rewriter
from ragdro.selection.selector import Selector
from ragdro.system import reading
from ragdro.training.lessons import Lesson, TaughtList, lessons
from ragdro.training.m_step import FitObserver, fit
from ragdro.training.teachers import Orders, tied_lists
from ragdro.types import NO_THOUGHT, Task

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
    asking: Asking | None = None,
) -> list[Lesson]:
    """Fine-tune the models on the teacher's lists and queries; a role whose settings are None is left alone.
    `orders`: those of a teacher that is a model (`teachers.model_orders`); `asking`: what asks a question
    more than once, where anything does. Returns what was taught of each question (of none, where every role
    is left alone)."""
    roles = ("selector", "generator", *(("rewriter",) if asking is not None else ()))
    if all(getattr(settings, role) is None for role in roles):
        return []
    known = orders or {}
    taught = lessons(selector, tasks, settings, known, asking)

    def selection(i: int) -> TrainingExample:
        example = partial(_list, settings=settings, known=known)
        return example(taught[i].lists[0]) if asking is None else _lists(taught[i], example)

    if settings.selector is not None:
        with phase("selector update"):
            fit(selector.model, len(tasks), selection, settings.selector, rng, observe("selector"))
    teach_answers(generator, taught, settings, rng, observe("generator"))
    if asking is None or settings.rewriter is None:
        return taught
    rewriter, asked = asking.rewriter, [lesson for lesson in taught if lesson.queries]

    def query(i: int) -> TrainingExample:
        return _queries(rewriter, asked[i], settings)

    if asked:
        with phase("rewriter update"):
            fit(rewriter.model, len(asked), query, settings.rewriter, rng, observe("rewriter"))
    return taught


def teach_answers(
    generator: Generator,
    taught: Sequence[Lesson],
    settings: WarmUp,
    rng: np.random.Generator,
    observer: FitObserver,
) -> None:
    """Fit the generator to the gold answers from what the teacher read, unless its settings are None."""

    def answer(reader: Generator, i: int) -> TrainingExample:
        return _answer(reader, taught[i], settings)

    if settings.generator is not None:
        with phase("generator update"):
            answers = [partial(answer, reader) for reader in generator.turns]
            fit(generator.model, len(taught), answers, settings.generator, rng, observer)


def _lists(lesson: Lesson, example: Callable[[TaughtList], TrainingExample]) -> TrainingExample:
    """The selector's, of a path: every list of the teacher."""
    examples = [example(taught) for taught in lesson.lists]
    weights = tuple(weight for example in examples for weight in example.weights)
    group = JoinedGroup(tuple(example.group for example in examples))
    return TrainingExample(lesson.task.question.id, group, weights)


def _list(taught: TaughtList, settings: WarmUp, known: Orders) -> TrainingExample:
    selector, task = taught.selector, taught.task
    name, whole = task.question.id, settings.loss == "all_tokens"
    ranked = name in known or (settings.teacher == "auto" and task.question.ranking is not None)
    if selector.kind == "pointer" and not ranked:
        lists = tied_lists(task, selector.k, settings.teacher)
        return TrainingExample(name, selector.group(task, lists), (1 / len(lists),) * len(lists))
    return TrainingExample(name, selector.taught(task, taught.permutation, whole=whole), (1.0,))


def _answer(generator: Generator, lesson: Lesson, settings: WarmUp) -> TrainingExample:
    """The generator's: the gold answer from what the teacher read. Nobody teaches thoughts: behind none."""
    thought = None if generator.thinking is None else NO_THOUGHT
    sequence = generator.scored(
        reading(lesson.task, generator.ordered(lesson.permutation, lesson.path), thought)
    )
    whole = sequence.whole() if settings.loss == "all_tokens" else sequence
    return TrainingExample(lesson.task.question.id, SequenceGroup.of([whole]), (1.0,))


def _queries(rewriter: Rewriter, lesson: Lesson, settings: WarmUp) -> TrainingExample:
    """The rewriter's: every query of the teacher."""
    sequences = [rewriter.scored(taught.reading, taught.tokens) for taught in lesson.queries]
    if settings.loss == "all_tokens":
        sequences = [sequence.whole() for sequence in sequences]
    return TrainingExample(lesson.task.question.id, SequenceGroup.of(sequences), (1.0,) * len(sequences))
