"""Study of memory: what becomes of the selector when the generator memorises its questions.

In: runs on a few questions that return, with a generator that is fitted hard. Out: what is selected on
held-out questions, and both bounds: that of the training questions before each M-step, and the held-out one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel
from ragdro.report.table import Cell, Table
from ragdro.studies.records import METRICS, Run, Runs
from ragdro.studies.result import (
    StudyResult,
    curve_panel,
    differences_table,
    final_table,
    line,
    mean_curve,
    mean_of,
)
from ragdro.studies.study import Study, sized

_TRAINING = {"bound": "bound (nats)", "effective_sample_size": "effective sample size"}
"""Metrics of the E-steps."""


def _memory(runs: Runs) -> StudyResult:
    panels = (
        curve_panel(runs, "full_recall"),
        curve_panel(runs, "bound", fraction=False),
        *(_training_panel(runs, metric) for metric in _TRAINING),
    )
    held_out = ("full_recall", "bound")
    rows: list[tuple[Cell, ...]] = []
    for label, seeds in runs.items():
        last = [mean_curve(seeds, metric)[-1] for metric in held_out]
        rows.append((label, *last, *(_training(seeds, metric)[-1] for metric in _TRAINING)))
    names = (
        *(METRICS[metric] for metric in held_out),
        *(f"{name}, training" for name in _TRAINING.values()),
    )
    tables = {
        "Best iteration": final_table(runs),
        "Difference from dro": differences_table(runs),
        "Last iteration": Table(("", *names), tuple(rows)),
    }
    return StudyResult(tables, panels)


def _training(seeds: Mapping[int, Run], metric: str) -> list[Interval | float | None]:
    """A metric of the E-steps: at i, of the pair that iteration i left."""
    return mean_of([run.history.curve("e_step", metric) for run in seeds.values()])


def _training_panel(runs: Runs, metric: str) -> Panel:
    name = _TRAINING[metric]
    series = tuple(line(label, _training(seeds, metric)) for label, seeds in runs.items())
    return Panel(f"{name}, training", "iteration (0: warm-up)", name, series)


MEMORY = Study(
    name="memory",
    about="a generator that memorises its questions: objectives with and without cross-fitting",
    variants={
        "dro": (),
        "dro-centered": ("objective=dro-centered",),
        "dro-tempered": ("objective=dro-tempered",),
        "cross-fitted": ("cross_fitted=true",),
    },
    conclude=_memory,
    sizes=sized(
        {
            "iterations": 6,
            "data.train_questions": 24,
            "e_step.questions": 24,
            "evaluation.questions": 42,
            "m_step.generator.epochs": 4,
            "m_step.generator.learning_rate": 5e-4,
        }
    ),
    seeds=(0, 1, 2, 3, 4),
    notes=(
        "24 questions that return at every iteration, the generator fitted four times over them at 5e-4",
        "training: the E-step's questions, before the M-step, as the generator that scores them finds them"
        " (cross-fitted: one that was not fitted to them); the last E-step precedes the last iteration",
    ),
)
