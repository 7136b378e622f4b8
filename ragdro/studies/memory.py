"""Study of memory: what becomes of the selector when the generator learns its questions by heart.

In: runs on a few questions that return, with a generator that is fitted hard. Out: what is selected on
held-out questions, and both bounds: that of the training questions before each M-step, and the held-out one.
"""

from __future__ import annotations

from collections.abc import Mapping

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel
from ragdro.report.sheet import Cell, Sheet
from ragdro.studies.outcome import (
    Outcome,
    curve_panel,
    differences_table,
    final_table,
    line,
    mean_curve,
    mean_of,
)
from ragdro.studies.records import FIGURES, Run, Runs
from ragdro.studies.study import Study, sized

_TRAINING = {"bound": "bound (nats)", "effective_sample_size": "effective sample size"}
"""Figures of the E-steps."""


def _memory(runs: Runs) -> Outcome:
    panels = (
        curve_panel(runs, "all_gold_selected"),
        curve_panel(runs, "bound", share=False),
        *(_training_panel(runs, figure) for figure in _TRAINING),
    )
    held_out = ("all_gold_selected", "bound")
    rows: list[tuple[Cell, ...]] = []
    for label, seeds in runs.items():
        last = [mean_curve(seeds, figure)[-1] for figure in held_out]
        rows.append((label, *last, *(_training(seeds, figure)[-1] for figure in _TRAINING)))
    names = (
        *(FIGURES[figure] for figure in held_out),
        *(f"{name}, training" for name in _TRAINING.values()),
    )
    tables = {
        "Best iteration": final_table(runs),
        "Difference from dro": differences_table(runs),
        "Last iteration": Sheet(("", *names), tuple(rows)),
    }
    return Outcome(tables, panels)


def _training(seeds: Mapping[int, Run], figure: str) -> list[Interval | float | None]:
    """A figure of the E-steps: at i, of the pair that iteration i left."""
    return mean_of([run.history.curve("e_step", figure) for run in seeds.values()])


def _training_panel(runs: Runs, figure: str) -> Panel:
    name = _TRAINING[figure]
    series = tuple(line(label, _training(seeds, figure)) for label, seeds in runs.items())
    return Panel(f"{name}, training", "iteration (0: warm-up)", name, series)


MEMORY = Study(
    name="memory",
    about="a generator that learns its questions by heart: objectives with and without cross-fitting",
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
