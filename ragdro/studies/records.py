"""A finished run of a study, read back.

In: a run folder. Out: its metrics by stage and what each iteration cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.evaluation.significance import Interval
from ragdro.report.history import History, read_history
from ragdro.report.predictions import read_records
from ragdro.report.table import estimate
from ragdro.runs.status import read_json, read_results

METRICS = {
    "exact_match": "exact match",
    "f1": "F1",
    "recall_at_5": "recall@5",
    "full_recall": "full recall",
    "bound": "bound (nats)",
    "effective_sample_size": "effective sample size",
}
"""The metrics that studies report, by their names in `results.json`."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `measured` is what the study's own measurement found, None where it has none."""

    folder: Path
    results: dict[str, Any]
    history: History
    measured: Any

    @classmethod
    def read(cls, folder: Path, measured: Path | None) -> Run:
        """Raises `DataError` for a run that has not finished."""
        measurement = None if measured is None else read_json(measured)
        return cls(folder, read_results(folder), read_history(folder), measurement)

    @property
    def config(self) -> Config:
        """The resolved config."""
        return self.history.config

    def curve(self, metric: str) -> list[float | None]:
        """A metric after the warm-up and after each iteration up to the last one measured; None after one
        that was not (`evaluation.every`, `evaluation.test`)."""
        measured = {
            0: self.results["warm_up"],
            **{one["iteration"]: one for one in self.results["iterations"]},
        }
        return [measured[i][metric] if i in measured else None for i in range(max(measured) + 1)]

    def best(self, metric: str) -> float | None:
        """A metric of the iteration that the validation questions choose."""
        value: float | None = self.results["best"][metric]
        return value

    def by_question(self, metric: str) -> dict[str, float]:
        """A metric of the best iteration for each question that it applies to."""
        best = self.results["best"]["iteration"]
        records = read_records(self.folder, f"iteration-{best}" if best else "warm_up")
        return {record["id"]: record[metric] for record in records if record[metric] is not None}

    def seconds(self) -> list[float]:
        """What each iteration's E-step and M-step took; measuring is left out."""
        costs: dict[str, float] = {}
        since = 0.0
        for record in self.history.records:
            stage, seconds = record["stage"], record["seconds"]
            if record["event"] in ("update", "shard"):
                if stage.startswith("iteration-"):
                    costs[stage] = costs.get(stage, 0.0) + seconds - since
                since = seconds
            elif record["event"] in ("evaluation", "breakdown"):
                since = seconds
        return list(costs.values())

    def generator_evaluations(self) -> int:
        """Answers scored in E-steps, m for each question of each iteration (one each without a latent
        variable, one a passage where passages are independent)."""
        config = self.config
        draws = algorithm_of(config).answers_scored(config.e_step.samples, config.top_n)
        return sum(
            int(record["questions"]) * draws for record in self.history.records if record["event"] == "e_step"
        )


Runs: TypeAlias = Mapping[str, Mapping[int, Run]]
"""Variant → seed → run, both in the study's order."""


def over_seeds(runs: Mapping[int, Run], metric: Callable[[Run], float | None]) -> Interval | float | None:
    """A metric's estimate over the seeds of one variant."""
    return estimate([metric(run) for run in runs.values()])
