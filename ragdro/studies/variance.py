"""The study of variance: of p(y|x,d_z), and of both models' gradient estimates, with and without weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel, Series
from ragdro.report.table import Cell, Table, estimate
from ragdro.studies.records import Run, Runs
from ragdro.studies.result import StudyResult
from ragdro.studies.study import Study, sized
from ragdro.units import number

_COLUMNS = {
    "likelihood": "variance of the mean likelihood",
    "selector_weighted": "selector: weighted",
    "selector_uniform": "selector: uniform",
    "selector_centered": "selector: centred",
    "selector_raised": "selector: raised by weighting (fraction of questions)",
    "generator_weighted": "generator: weighted",
    "generator_uniform": "generator: uniform",
    "generator_raised": "generator: raised by weighting (fraction of questions)",
}
_ROLES = ("selector", "generator")


Place: TypeAlias = tuple[int, str, int]
"""Iteration, split and m."""
Figure: TypeAlias = Callable[[Place], Interval | float | None]


def _rows(seeds: Mapping[int, Run], where: Place) -> list[dict[str, Any]]:
    """What every seed measured there."""
    names = ("iteration", "split", "m")
    return [row for run in seeds.values() for row in run.measured if tuple(row[n] for n in names) == where]


def _cell(seeds: Mapping[int, Run], where: Place, key: str) -> Interval | float | None:
    """The estimate over seeds of a metric."""
    return estimate([row[key] for row in _rows(seeds, where)])


def _variance(runs: Runs) -> StudyResult:
    (seeds,) = runs.values()
    first = next(iter(seeds.values())).measured
    places = [(row["iteration"], row["split"], row["m"]) for row in first]
    rows: list[tuple[Cell, ...]] = [
        (place[1], place[0], place[2], *(_cell(seeds, place, key) for key in _COLUMNS)) for place in places
    ]
    table = Table(("questions", "iteration", "m", *_COLUMNS.values()), tuple(rows))

    def panel(title: str, y: str, value: Figure, least: int, *marks: tuple[str, float]) -> Panel:
        series = []
        for iteration, split in dict.fromkeys(place[:2] for place in places):
            chosen = [p for p in places if p[:2] == (iteration, split) and p[2] >= least]
            points = tuple((float(p[2]), value(p)) for p in chosen)
            series.append(Series(f"{split}, iteration {iteration}", points))
        x = "samples m (log scale)"
        return Panel(title, x, y, tuple(series), scale="log2", log_y=True, marks=marks)

    panels = [
        panel("likelihood", "variance of the mean p(y|x,d_z)", lambda p: _cell(seeds, p, "likelihood"), 1)
    ]
    for role in _ROLES:
        panels.append(
            panel(
                f"{role}'s gradient",
                "variance, weighted over uniform",
                lambda p, role=role: _ratio(seeds, p, role),  # type: ignore[misc]
                2,
                ("as the uniform one", 1.0),
            )
        )
    return StudyResult({"Variances": table}, tuple(panels), tuple(_findings(seeds)))


def _ratio(seeds: Mapping[int, Run], where: Place, role: str) -> Interval | float | None:
    """The weighted estimate's variance over the uniform one's, a geometric mean over seeds."""
    pairs = [(row[f"{role}_weighted"], row[f"{role}_uniform"]) for row in _rows(seeds, where)]
    if min(map(min, pairs)) <= 0:
        return None
    mean = estimate([math.log(weighted / uniform) for weighted, uniform in pairs])
    if isinstance(mean, Interval):
        return Interval(*map(math.exp, mean))
    return None if mean is None else math.exp(mean)


def _findings(seeds: Mapping[int, Run]) -> list[str]:
    """Whether weighting can only lower the variance: for each role over all places with more than one
    sample."""
    findings = []
    for role in _ROLES:
        rows = [row for run in seeds.values() for row in run.measured if row["m"] > 1]
        raised = [row for row in rows if row[f"{role}_weighted"] > row[f"{role}_uniform"]]
        fraction = sum(row[f"{role}_raised"] for row in rows) / len(rows)
        verdict = "does not hold" if raised or fraction else "is not contradicted"
        findings.append(
            f"{role}: that weighting can only lower the variance {verdict}: the weighted estimate varies more"
            f" than the uniform one of the same lists in {len(raised)} of {len(rows)} means over questions"
            f" (m > 1), and for {number(fraction)} of the questions"
        )
    return findings


VARIANCE = Study(
    name="variance",
    about="variance of p(y|x,d_z) and of the gradient estimates, m in 1 … 16, iterations 1 to 3 (Figure 4)",
    variants={"trained": ()},
    conclude=_variance,
    sizes=sized({"checkpoints.keep": "all"}),
    measure="ragdro.studies.gradients",
    notes=(
        "over independent repetitions of m lists out of 128 draws a question, with the models that the"
        " iteration samples with; means over 8 training and 8 held-out questions; the gradient is the"
        " question's, over all parameters of the model; with m = 1 the weight is 1, centring leaves nothing",
    ),
)
