"""Weighted permutations as JSON: what an E-step's shard leaves for a run that resumes.

In: `WeightedTask`s. Out: a JSON value, and from it the same `WeightedTask`s to the last bit (JSON writes
the shortest digits that read back as the same float).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from ragdro.errors import TrainingError
from ragdro.types import RejectedAnswer, Task, WeightedSample, WeightedTask

_sample = attrgetter(*WeightedSample.__slots__)
_rejected = attrgetter(*RejectedAnswer.__slots__)


def encode(weighted: Sequence[WeightedTask]) -> list[dict[str, Any]]:
    """One object a question."""
    return [
        {
            "id": w.task.question.id,
            "samples": [_sample(s) for s in w.samples],
            "bound": w.bound,
            "effective_sample_size": w.effective_sample_size,
            "impossible": w.impossible,
            "drawn": w.drawn,
            "rejected": None if w.rejected is None else _rejected(w.rejected),
        }
        for w in weighted
    ]


def decode(values: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[WeightedTask]:
    """The inverse, for the same questions. Raises `TrainingError` where they are others."""
    if [v["id"] for v in values] != [t.question.id for t in tasks]:
        raise TrainingError("the saved permutations are of other questions; start again with --overwrite")
    return [
        WeightedTask(
            task,
            tuple(WeightedSample(tuple(z), *numbers) for z, *numbers in value["samples"]),
            value["bound"],
            value["effective_sample_size"],
            value["impossible"],
            tuple(value["drawn"]),
            None if value["rejected"] is None else RejectedAnswer(*value["rejected"]),
        )
        for value, task in zip(values, tasks, strict=True)
    ]
