"""What a study comes to, and the pieces that several studies make of their runs.

In: finished runs. Out: tables, panels of a figure, and findings in words. Every estimate is over seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel, Series
from ragdro.report.table import Cell, Table, estimate
from ragdro.studies.records import METRICS, Run, Runs, over_seeds


@dataclass(frozen=True, slots=True)
class StudyResult:
    """`tables`: title → table, the first being the study's main one; `findings`: sentences that follow."""

    tables: Mapping[str, Table]
    panels: tuple[Panel, ...]
    findings: tuple[str, ...] = ()


def final_table(runs: Runs, **more: Callable[[Run], float | None]) -> Table:
    """A row a variant: its best iteration on the validation questions, after vanilla RAG and the warm-up of
    the first variant. `more` are further columns, underscores in their names being spaces."""
    first = next(iter(runs.values()))
    rows: list[tuple[Cell, ...]] = []
    for label, stage in (("vanilla RAG", "vanilla_rag"), ("warm-up", "warm_up")):
        cells = [estimate([run.results[stage][key] for run in first.values()]) for key in METRICS]
        rows.append((label, *cells, *(None for _ in more)))
    for label, seeds in runs.items():
        cells = [estimate([run.best(key) for run in seeds.values()]) for key in METRICS]
        rows.append((label, *cells, *(over_seeds(seeds, metric) for metric in more.values())))
    return Table(("", *METRICS.values(), *(name.replace("_", " ") for name in more)), tuple(rows))


def curve_table(runs: Runs, metrics: tuple[str, ...]) -> Table:
    """A row a variant and iteration (0 is the warm-up)."""
    rows: list[tuple[Cell, ...]] = []
    for label, seeds in runs.items():
        curves = [mean_curve(seeds, metric) for metric in metrics]
        rows += [(label, iteration, *cells) for iteration, cells in enumerate(zip(*curves, strict=True))]
    return Table(("", "iteration", *(METRICS[f] for f in metrics)), tuple(rows))


def mean_curve(seeds: Mapping[int, Run], metric: str) -> list[Interval | float | None]:
    """A metric by iteration, as far as all seeds went."""
    return mean_of([run.curve(metric) for run in seeds.values()])


def mean_of(curves: Sequence[Sequence[float | None]]) -> list[Interval | float | None]:
    """One curve of several seeds', as far as all of them went."""
    return [estimate(values) for values in zip(*curves, strict=False)]


def curve_panel(runs: Runs, metric: str, *, fraction: bool = True) -> Panel:
    """A line a variant, by iteration; a variant that never moves is drawn through to the end."""
    longest = max(len(mean_curve(seeds, metric)) for seeds in runs.values())
    series = []
    for label, seeds in runs.items():
        curve = mean_curve(seeds, metric)
        if len(curve) == 1:
            curve = curve * longest
        series.append(line(label, curve))
    name = METRICS[metric]
    label = f"{name} (fraction of 1)" if fraction else name
    return Panel(name, "iteration (0: warm-up)", label, tuple(series), fraction=fraction)


def line(label: str, curve: Sequence[Interval | float | None]) -> Series:
    """A curve that begins with the warm-up."""
    return Series(label, tuple((float(iteration), value) for iteration, value in enumerate(curve)))


def final_panel(runs: Runs, metrics: Mapping[str, Callable[[Run], float | None]]) -> Panel:
    """A row a variant, a series a metric (fraction of 1, exact match)."""
    series = tuple(
        Series(
            name, tuple((float(row), over_seeds(seeds, metric)) for row, seeds in enumerate(runs.values()))
        )
        for name, metric in metrics.items()
    )
    return Panel(
        "exact match", "", "exact match (fraction of 1)", series, categories=tuple(runs), fraction=True
    )


def differences_table(runs: Runs) -> Table:
    """A row a variant but the first: best iteration minus the first variant's, seed by seed."""
    keys = ("exact_match", "f1", "full_recall", "bound")
    (_, first), *others = runs.items()
    rows = [(label, *(differences(first, seeds, key) for key in keys)) for label, seeds in others]
    return Table(("", *(METRICS[key] for key in keys)), tuple(rows))


def differences(first: Mapping[int, Run], second: Mapping[int, Run], metric: str) -> Interval | float | None:
    """`second − first` in a metric of the best iterations, seed by seed."""
    pairs = [(first[seed].best(metric), second[seed].best(metric)) for seed in first if seed in second]
    return estimate([b - a if a is not None and b is not None else None for a, b in pairs])
