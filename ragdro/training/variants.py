"""Other weights of a model that is in memory once: what cross-fitting and reference policies keep.

In: a model. Out: named sets of its trained parameters, on the CPU, that take the place of its own for as long
as a `with` lasts. They are saved and restored with the run's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from ragdro.config import Config, Rloo
from ragdro.lm.model import LanguageModel
from ragdro.rag import Rag
from ragdro.training.checkpoint import restore_parameters, trained
from ragdro.types import Task

T = TypeVar("T")
FOLDS = ("generator-fold-1", "generator-fold-2")
REFERENCE = "selector-warm-up"
EARLIER = "selector-earlier-"
LISTS = "lists-"
"""What the earlier selector of the same number drew, in the run's state."""


class Variant:
    """The weights that `model` has now, under a `name`."""

    def __init__(self, name: str, model: LanguageModel) -> None:
        self.name = name
        self.model = model
        self.take()

    def take(self) -> None:
        """Make the weights that the model has now this variant's."""
        self.weights = {name: p.detach().to("cpu", copy=True) for name, p in trained(self.model.hf).items()}

    def put(self) -> None:
        """Give the model this variant's weights."""
        restore_parameters(self.model.hf, self.weights, self.name)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has these weights within; what becomes of them is kept, and its own come back."""
        own = Variant(self.name, self.model)
        self.put()
        try:
            yield
        finally:
            self.take()
            own.put()


class Fold(Variant):
    """A generator for cross-fitting: fitted to every second training question, it scores the others."""

    def __init__(self, name: str, model: LanguageModel, questions: Sequence[str]) -> None:
        super().__init__(name, model)
        self._questions = frozenset(questions)

    def own(self, tasks: Sequence[Task]) -> list[int]:
        """Which of the questions it is fitted to."""
        return [i for i, task in enumerate(tasks) if task.question.id in self._questions]


def variants_of(config: Config, rag: Rag, train: Sequence[Task]) -> dict[str, Variant]:
    """What `config` needs beside the pair, all as the pair is now."""
    found: list[Variant] = []
    if config.cross_fitted:
        ids = [task.question.id for task in train]
        found += [Fold(name, rag.generator.model, ids[at::2]) for at, name in enumerate(FOLDS)]
    if isinstance(config.objective, Rloo) and config.objective.kl:
        found.append(Variant(REFERENCE, rag.selector.model))
    found += [Variant(f"{EARLIER}{at}", rag.selector.model) for at in range(config.e_step.replay)]
    return {variant.name: variant for variant in found}


def held_out(
    folds: Sequence[Fold], tasks: Sequence[Task], compute: Callable[[Sequence[int]], Sequence[T]]
) -> list[T]:
    """`compute` of all questions, given by their places, each while the generator in place is the fold that
    has not been fitted to it (without folds: the generator as it is)."""
    if not folds:
        return list(compute(range(len(tasks))))
    found: dict[int, T] = {}
    for fold in folds:
        own = set(fold.own(tasks))
        others = [i for i in range(len(tasks)) if i not in own and i not in found]
        if others:
            with fold.in_place():
                found.update(zip(others, compute(others), strict=True))
    return [found[i] for i in range(len(tasks))]
