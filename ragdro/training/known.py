"""What a selector that never changes said once of a question and would only say again.

In: questions, and what computes something of them with the selector. Out: the same, computed for those alone
that are not known yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ragdro.algorithms.base import Algorithm
from ragdro.config import TrainingSettings
from ragdro.lm.snapshot import trained_parameters
from ragdro.system import Rag
from ragdro.types import Task

_Value = TypeVar("_Value")


class Known:
    """Values by what they are of, question and candidates; `used` false: nothing is kept."""

    def __init__(self, *, used: bool) -> None:
        self.used = used
        self._values: dict[tuple[str, str], tuple[Task, Any]] = {}

    def of(
        self, name: str, tasks: Sequence[Task], compute: Callable[[Sequence[Task]], Sequence[_Value]]
    ) -> list[_Value]:
        """`compute` of the tasks, under a `name` that says what it is."""
        if not self.used:
            return list(compute(tasks))
        missing = [task for task in tasks if not self._has(name, task)]
        for task, value in zip(missing, compute(missing) if missing else [], strict=True):
            self._values[name, task.question.id] = (task, value)
        return [self._values[name, task.question.id][1] for task in tasks]

    def _has(self, name: str, task: Task) -> bool:
        kept = self._values.get((name, task.question.id))
        return kept is not None and kept[0] == task


def is_frozen(system: Rag, algorithm: Algorithm, settings: TrainingSettings) -> bool:
    """Whether the loop never changes what the selector says: its own fit is off, and the generator's moves
    none of its weights."""
    if (settings.train_selector and algorithm.selects) or system.asking is not None:
        return False
    if not settings.train_generator:
        return True
    moved = {id(p) for p in trained_parameters(system.generator.model).values()}
    return not moved & {id(p) for p in trained_parameters(system.selector.model).values()}
