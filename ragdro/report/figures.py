"""The curves of a run, as pictures.

In: a run folder. Out: panels by iteration (answers, reading, the bound, the effective sample size), each with
its split and number of questions, and `curves.png` in the run folder. The warm-up is apart where it would
flatten the rest: a bound of -40 nats beside -1 and -0.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ragdro.evaluation.diagnosis import Record, ceiling
from ragdro.evaluation.significance import Interval, bootstrap_interval
from ragdro.report.evidence import held_out_samples
from ragdro.report.history import History, iteration_of, read_history
from ragdro.report.plot import Panel, Series, draw
from ragdro.report.predictions import read_records
from ragdro.report.table import shown
from ragdro.report.tables import stages, validation_questions
from ragdro.runs.status import read_results
from ragdro.units import counted, number

_ANSWERS = {"exact_match": "exact match", "f1": "F1"}
_READING = {"recall_at_5": "recall@5", "answer_read": "an answer", "full_recall": "all gold"}
_ITERATION = "iteration (0: warm-up)"
_RESAMPLES = 1000
_NORMAL = 1.96


def draw_curves(run: Path) -> Path:
    """Draw RUN/curves.png and return its path."""
    path = run / "curves.png"
    draw(run_panels(run), read_history(run).name, path)
    return path


def run_panels(run: Path) -> list[Panel]:
    """The run's metrics by iteration, those that it has."""
    results, history = read_results(run), read_history(run)
    vanilla = read_records(run, "vanilla_rag")
    by_stage = [(_place(name), read_records(run, name)) for name, _, _ in stages(results)[1:]]
    measured = {_place(stage["stage"]): stage for stage in history.evaluations(history.chosen_by)}
    reported = counted(len(vanilla), f"{history.split} questions")
    sampled = counted(validation_questions(history, results), "validation questions")
    m, fraction = held_out_samples(history), "fraction of 1"
    panels = [
        Panel(
            f"Right answers\n{reported}",
            _ITERATION,
            fraction,
            _of_records(by_stage, _ANSWERS),
            fraction=True,
            marks=_mark("vanilla RAG, exact match", _mean(vanilla, "exact_match")),
        ),
        Panel(
            f"What the lists hold\n{reported}",
            _ITERATION,
            fraction,
            _of_records(by_stage, _READING),
            fraction=True,
            marks=_mark("ceiling of the candidates", ceiling(vanilla)),
        ),
        Panel(
            f"Bound on log p(y|x)\n{sampled}",
            "iteration",
            "nats",
            _apart("bound", {x: _bound(stage) for x, stage in measured.items()}),
        ),
        Panel(
            f"Effective sample size\n{sampled}",
            "iteration",
            "lists" if m is None else f"of m = {m}",
            _apart("ESS", {x: stage["effective_sample_size"] for x, stage in measured.items()}),
        ),
    ]
    return [panel for panel in panels if panel.series]


def warm_up_caption(run: Path) -> str:
    """What the panels leave out of the warm-up."""
    warm_up = read_results(run)["warm_up"]
    bound, size = _bound(warm_up), warm_up["effective_sample_size"]
    if bound is None or size is None:
        return ""
    return f"After the warm-up: bound {shown(bound)} nats, effective sample size {number(size)}."


def loss_panels(history: History) -> list[Panel]:
    """Both models' losses, update by update; the warm-up apart."""
    panels = []
    for title, is_warm_up in (("warm-up", True), ("iterations", False)):
        for role in ("selector", "generator"):
            losses = [
                float(record["loss"])
                for record in history.records
                if record["event"] == "update"
                and record["role"] == role
                and (record["stage"] == "warm_up") == is_warm_up
                and isinstance(record.get("loss"), int | float)
            ]
            if losses:
                points = tuple((float(step), loss) for step, loss in enumerate(losses, start=1))
                series = (Series("loss", points),)
                panels.append(
                    Panel(f"{role.capitalize()}'s loss\n{title}", "update", "nats a question", series)
                )
    return panels


def _place(stage: str) -> float:
    """A stage's place on the horizontal axis."""
    return float(iteration_of(stage))


def _of_records(
    by_stage: Sequence[tuple[float, Sequence[Record]]], names: Mapping[str, str]
) -> tuple[Series, ...]:
    """One line a metric that the run has, with intervals over the questions."""
    lines = []
    for key, name in names.items():
        points = tuple((x, _interval(records, key)) for x, records in by_stage)
        if any(value is not None for _, value in points):
            lines.append(Series(name, points))
    return tuple(lines)


def _interval(records: Sequence[Record], key: str) -> Interval | None:
    values = [float(r[key]) for r in records if r.get(key) is not None]
    if not values:
        return None
    return bootstrap_interval(values, np.random.default_rng(0), resamples=_RESAMPLES)


def _mean(records: Sequence[Record], key: str) -> float | None:
    values = [float(r[key]) for r in records if r.get(key) is not None]
    return sum(values) / len(values) if values else None


def _bound(stage: Mapping[str, Any]) -> Interval | float | None:
    mean: float | None = stage["bound"]
    error: float | None = stage.get("bound_error")
    if mean is None or error is None:
        return mean
    return Interval(mean, mean - _NORMAL * error, mean + _NORMAL * error)


def _apart(name: str, values: Mapping[float, Interval | float | None]) -> tuple[Series, ...]:
    """The iterations alone; the warm-up where there are none."""
    points = tuple((x, value) for x, value in values.items() if x or len(values) == 1)
    return (Series(name, points),) if any(value is not None for _, value in points) else ()


def _mark(name: str, value: float | None) -> tuple[tuple[str, float], ...]:
    return () if value is None else ((name, value),)
