"""Questions whose answer changed while a run went on.

In: a run's predictions by stage. Out: the questions that training put right, those that it spoilt, and
those that were right for a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ragdro.report.predictions import read_records
from ragdro.report.tables import stages
from ragdro.runs.status import read_results

Record = dict[str, Any]
EXAMPLES = 12
"""How many of a group are shown."""


@dataclass(frozen=True, slots=True)
class Change:
    """A question's predictions before and after; `between` names the stage where it was right for a time."""

    before: Record
    after: Record
    between: str | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """`questions` were asked; the others are as their names say, in the data's order."""

    questions: int
    put_right: list[Change]
    spoilt: list[Change]
    right_for_a_time: list[Change]

    @property
    def groups(self) -> tuple[tuple[str, list[Change]], ...]:
        """Each group with what its questions have in common."""
        return (
            ("Put right: wrong after the warm-up, right at the best iteration", self.put_right),
            ("Spoilt: right after the warm-up, wrong at the best iteration", self.spoilt),
            (
                "Right for a time: wrong after the warm-up, right, wrong after the last one",
                self.right_for_a_time,
            ),
        )


def find_changes(run: Path) -> Changes:
    """From the warm-up to the best iteration; for a time: wrong, right, and wrong again in the last one."""
    results = read_results(run)
    names = [(name, label) for name, label, _ in stages(results) if name != "vanilla_rag"]
    by_stage = [read_records(run, name) for name, _ in names]
    iteration = results["best"]["iteration"]
    best = by_stage[[name for name, _ in names].index(f"iteration-{iteration}" if iteration else "warm_up")]
    pairs = [Change(*pair) for pair in zip(by_stage[0], best, strict=True)]
    return Changes(
        len(pairs),
        [c for c in pairs if c.before["exact_match"] < c.after["exact_match"]],
        [c for c in pairs if c.before["exact_match"] > c.after["exact_match"]],
        [
            change
            for history in zip(*by_stage, strict=True)
            if (change := _for_a_time(history, [label for _, label in names])) is not None
        ],
    )


def _for_a_time(history: Sequence[Record], labels: Sequence[str]) -> Change | None:
    right = [i for i, record in enumerate(history) if record["exact_match"]]
    if not right or history[0]["exact_match"] or history[-1]["exact_match"]:
        return None
    return Change(history[right[0]], history[-1], labels[right[0]])
