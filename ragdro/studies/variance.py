"""The study of variance: of p(y|x,d_z), and of both models' gradient estimates, with and without weights."""

from __future__ import annotations

from collections.abc import Mapping

from ragdro.evaluation.significance import Interval
from ragdro.report.plot import Panel, Series
from ragdro.report.sheet import Cell, Sheet, estimate
from ragdro.studies.outcome import Outcome
from ragdro.studies.records import Run, Runs
from ragdro.studies.study import Study, sized

_COLUMNS = {
    "likelihood": "variance of the mean likelihood",
    "selector_weighted": "selector: weighted",
    "selector_uniform": "selector: uniform",
    "selector_centered": "selector: centred",
    "selector_raised": "selector: raised by weighting (share of questions)",
    "generator_weighted": "generator: weighted",
    "generator_uniform": "generator: uniform",
    "generator_raised": "generator: raised by weighting (share of questions)",
}
_ROLES = ("selector", "generator")


def _cell(seeds: Mapping[int, Run], where: tuple[int, str, int], key: str) -> Interval | float | None:
    """The estimate over seeds of a figure for (iteration, split, m)."""
    names = ("iteration", "split", "m")
    rows = [row for run in seeds.values() for row in run.measured if tuple(row[n] for n in names) == where]
    return estimate([row[key] for row in rows])


def _variance(runs: Runs) -> Outcome:
    (seeds,) = runs.values()
    first = next(iter(seeds.values())).measured
    places = [(row["iteration"], row["split"], row["m"]) for row in first]
    rows: list[tuple[Cell, ...]] = [
        (place[1], place[0], place[2], *(_cell(seeds, place, key) for key in _COLUMNS)) for place in places
    ]
    table = Sheet(("questions", "iteration", "m", *_COLUMNS.values()), tuple(rows))

    def panel(title: str, y: str, keys: Mapping[str, str], splits: tuple[str, ...]) -> Panel:
        series = []
        for split in splits:
            for iteration in sorted({place[0] for place in places}):
                for key, name in keys.items():
                    chosen = [p for p in places if p[:2] == (iteration, split)]
                    label = " ".join(filter(None, (split, f"iteration {iteration}", name)))
                    points = tuple((float(p[2]), _cell(seeds, p, key)) for p in chosen)
                    series.append(Series(label, points))
        return Panel(title, "samples m (log scale)", y, tuple(series), scale="log2", log_y=True)

    kinds = ("training", "held-out")
    panels = (
        panel("likelihood", "variance of the mean p(y|x,d_z) (log scale)", {"likelihood": ""}, kinds),
        *(
            panel(
                f"{role}'s gradient, training questions",
                "trace of the covariance (log scale)",
                {f"{role}_weighted": "weighted", f"{role}_uniform": "uniform"},
                ("training",),
            )
            for role in _ROLES
        ),
    )
    return Outcome({"Variances": table}, panels, tuple(_findings(seeds)))


def _findings(seeds: Mapping[int, Run]) -> list[str]:
    """Whether weighting can only lower the variance: for each role over all places with more than one
    sample."""
    found = []
    for role in _ROLES:
        rows = [row for run in seeds.values() for row in run.measured if row["m"] > 1]
        raised = [row for row in rows if row[f"{role}_weighted"] > row[f"{role}_uniform"]]
        share = sum(row[f"{role}_raised"] for row in rows) / len(rows)
        verdict = "does not hold" if raised or share else "is not contradicted"
        found.append(
            f"{role}: that weighting can only lower the variance {verdict}: the weighted estimate varies more"
            f" than the uniform one of the same lists in {len(raised)} of {len(rows)} means over questions"
            f" (m > 1), and for {share:.0%} of the questions"
        )
    return found


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
