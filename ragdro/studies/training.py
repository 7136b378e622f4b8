"""Studies of the training itself: what each model contributes, whether the loop converges, how many samples
it takes."""

from __future__ import annotations

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel, Series
from ragdro.report.table import Cell, Table, estimate, shown
from ragdro.studies.records import METRICS, Run, Runs, over_seeds
from ragdro.studies.result import (
    StudyResult,
    curve_panel,
    curve_table,
    differences_table,
    final_table,
    mean_curve,
)
from ragdro.studies.study import Study, sized

_NEAR = 0.02
"""A run has reached its score when it is this close to its best exact match."""


def _ablation(runs: Runs) -> StudyResult:
    panels = (
        curve_panel(runs, "exact_match"),
        curve_panel(runs, "full_recall"),
        curve_panel(runs, "bound", fraction=False),
    )
    tables = {
        "Best iteration": final_table(runs),
        "Difference from training both": differences_table(runs),
        "Answers from several lists": selections_table(runs),
        "By iteration": curve_table(runs, ("exact_match", "f1", "full_recall", "bound")),
    }
    return StudyResult(tables, panels)


def selections_table(runs: Runs) -> Table:
    """A row a variant and way of answering: the best iteration's metrics, and what they are more than those
    of its greedy list, seed by seed."""
    keys, rows = ("exact_match", "full_recall"), list[tuple[Cell, ...]]()
    for label, seeds in runs.items():
        measured = [run.measured for run in seeds.values()]
        for way in measured[0]:
            cells: list[Cell] = [estimate([one[way][key] for one in measured]) for key in keys]
            if way != "greedy":
                cells += [
                    estimate([_more(one[way][key], one["greedy"][key]) for one in measured]) for key in keys
                ]
            rows.append((label, way, *cells, *[None] * (2 * len(keys) - len(cells))))
    names = [METRICS[key] for key in keys]
    return Table(("", "answers", *names, *(f"{name}, less greedy" for name in names)), tuple(rows))


def _more(value: float | None, greedy: float | None) -> float | None:
    return None if value is None or greedy is None else value - greedy


ABLATION = Study(
    name="ablation",
    about="both models trained, one of them frozen, both frozen, over the iterations (the paper's Figure 5)",
    variants={
        "both trained": (),
        "selector frozen": ("train_selector=false",),
        "generator frozen": ("train_generator=false",),
        "both frozen": ("train_selector=false", "train_generator=false", "iterations=0"),
    },
    conclude=_ablation,
    measure="ragdro.studies.selections",
    notes=(
        "frozen: as the warm-up left it; with both frozen nothing moves: measured once and drawn through",
        "answers from several lists (m as in the E-step): union reads the K passages that are most probably"
        " in a list, joint the list z whose own answer y has the largest p(z|x) p(y|x,d_z)",
    ),
)


def _convergence(runs: Runs) -> StudyResult:
    (seeds,) = runs.values()
    rows: list[tuple[Cell, ...]] = []
    findings = []
    keys = ("exact_match", "f1", "bound")
    curves = {key: mean_curve(seeds, key) for key in keys}
    bounds = list(zip(*(run.curve("bound") for run in seeds.values()), strict=False))
    measured: list[int] = []
    for iteration, now in enumerate(bounds):
        change = None
        if None not in now:
            pairs = zip(bounds[measured[-1]], now, strict=True) if measured else ()
            change = estimate([y - x for x, y in pairs if x is not None and y is not None])
            measured.append(iteration)
        fell = isinstance(change, Interval) and change.high < 0
        rows.append((iteration, *(curves[key][iteration] for key in keys), change, "falls" if fell else ""))
        if fell:
            findings.append(
                f"iteration {iteration}: the bound falls by more than its interval ({shown(change)} nats)"
            )
    if len(seeds) < 2:
        findings.append("whether the bound falls is not judged: one seed has no interval")
    elif not findings:
        findings.append("the bound never falls by more than its interval")
    names = ("iteration", *(METRICS[key] for key in keys), "change of the bound (nats)", "flag")
    panels = (
        curve_panel(runs, "exact_match"),
        curve_panel(runs, "f1"),
        curve_panel(runs, "bound", fraction=False),
    )
    return StudyResult({"By iteration": Table(names, tuple(rows))}, panels, tuple(findings))


CONVERGENCE = Study(
    name="convergence",
    about="exact match, F1 and the bound by iteration, a falling bound flagged (the paper's Table 3)",
    variants={"trained": ()},
    conclude=_convergence,
    sizes=sized({"iterations": 5}),
    seeds=(0, 1, 2, 3, 4),
    notes=(
        "0 is the warm-up; the bound is of `evaluation.samples` lists with the same random numbers at every"
        " iteration; a fall is flagged when the 95 % interval of the change, seed by seed, lies below 0",
    ),
)


def iterations_to_reach(run: Run) -> float | None:
    """The first iteration whose exact match is within 0.02 of the run's best."""
    known = [-1.0 if value is None else value for value in run.curve("exact_match")]
    return float(next(iteration for iteration, value in enumerate(known) if value >= max(known) - _NEAR))


def seconds_per_iteration(run: Run) -> float | None:
    """Mean seconds of an iteration's E-step and M-step."""
    spent = run.seconds()
    return sum(spent) / len(spent) if spent else None


def _samples(runs: Runs) -> StudyResult:
    numbers = [next(iter(seeds.values())).config.e_step.samples for seeds in runs.values()]
    table = final_table(
        runs,
        iterations_to_reach=iterations_to_reach,
        seconds_per_iteration=seconds_per_iteration,
    )

    def line(label: str, values: list[Interval | float | None]) -> Series:
        return Series(label, tuple((float(m), v) for m, v in zip(numbers, values, strict=True)))

    def panel(title: str, y: str, *series: Series, fraction: bool = False) -> Panel:
        return Panel(title, "samples m (log scale)", y, series, scale="log2", fraction=fraction)

    score = [over_seeds(seeds, lambda run: run.best("exact_match")) for seeds in runs.values()]
    gold = [over_seeds(seeds, lambda run: run.best("full_recall")) for seeds in runs.values()]
    reached = [over_seeds(seeds, iterations_to_reach) for seeds in runs.values()]
    cost = [over_seeds(seeds, seconds_per_iteration) for seeds in runs.values()]
    panels = (
        panel(
            "final score",
            "fraction of 1",
            line("exact match", score),
            line("full recall", gold),
            fraction=True,
        ),
        panel("iterations to reach it", "iterations", line("iterations", reached)),
        panel("cost", "seconds an iteration (one thread)", line("seconds", cost)),
    )
    curves = curve_table(runs, ("exact_match", "f1", "bound"))
    return StudyResult({"Best iteration": table, "By iteration": curves}, panels)


SAMPLES = Study(
    name="samples",
    about="m in 1, 2, 4, 8, 16: final score, iterations to reach it, cost (the paper's Figure 6)",
    variants={f"m = {m}": (f"e_step.samples={m}",) for m in (1, 2, 4, 8, 16)},
    conclude=_samples,
    notes=(
        f"reached: within {_NEAR} of the run's best exact match; cost: E-step and M-step, without measuring,"
        " on the machine that ran the study, whatever else it was doing",
    ),
)
