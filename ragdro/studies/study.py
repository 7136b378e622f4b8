"""What a study is: named variants of a config, each run with every seed, and what is made of the runs.

Imports no torch, so that `ragdro study` can list them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ragdro.studies.records import Runs
    from ragdro.studies.result import StudyResult

Overrides: TypeAlias = tuple[str, ...]

_SMALL: dict[str, object] = {
    "threads": 1,
    "patience": "null",
    "iterations": 3,
    "data.train_questions": 192,
    "e_step.questions": 64,
    "evaluation.questions": 84,
    "evaluation.tight_samples": "null",
    "checkpoints.keep": "best_and_last",
}
"""Sizes at which a study of the embedded default ends in half an hour on two cores."""


def sized(changes: Mapping[str, object] | None = None) -> Overrides:
    """The small sizes with some of them changed, or others added."""
    return tuple(f"{key}={value}" for key, value in {**_SMALL, **(changes or {})}.items())


SMALL = sized()


@dataclass(frozen=True, slots=True)
class Study:
    """`variants`: label → overrides; `sizes`: overrides for all of them, which the user's replace.

    `conclude` turns the finished runs into tables and a figure. `measure` is a module that is run as
    `python -m MODULE RUN OUT.json` on every finished run, for metrics that training does not leave; what it
    wrote is the run's `measured`.
    """

    name: str
    about: str
    variants: Mapping[str, Overrides]
    conclude: Callable[[Runs], StudyResult]
    sizes: Overrides = SMALL
    seeds: tuple[int, ...] = (0, 1, 2)
    measure: str | None = None
    notes: tuple[str, ...] = field(default=())
    """What a reader must know of the variants, printed under the tables."""

    def varied(self) -> set[str]:
        """The dotted keys that the variants set; `iterations` stays free for those that do not."""
        keys = {override.partition("=")[0] for overrides in self.variants.values() for override in overrides}
        return keys - {"iterations"}
