"""The curves of a run, as a picture.

In: a run folder. Out: panels by iteration (answers, selection, the bound, the effective sample size), and
`curves.png` in the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragdro.report.plot import Panel, Series, draw
from ragdro.runs.status import read_results

_ANSWERS = {"exact_match": "exact match", "f1": "F1"}
_SELECTION = {
    "recall_at_1": "recall@1",
    "recall_at_3": "recall@3",
    "recall_at_5": "recall@5",
    "full_recall": "full recall",
}


def draw_curves(run: Path) -> Path:
    """Draw RUN/curves.png and return its path."""
    path = run / "curves.png"
    draw(run_panels(run), curves_title(run), path)
    return path


def curves_title(run: Path) -> str:
    """What stands above a run's curves."""
    return f"{run.resolve().name}: {read_results(run)['warm_up']['questions']} questions"


def run_panels(run: Path) -> list[Panel]:
    """The run's metrics by iteration, those that it has."""
    results = read_results(run)
    rows = [results["warm_up"], *results["iterations"]]
    vanilla = results["vanilla_rag"]["exact_match"]
    marks = () if vanilla is None else (("vanilla RAG, exact match", float(vanilla)),)
    x, share = "iteration (0: warm-up)", "fraction of 1"
    return [
        Panel("answers", x, share, _series(rows, _ANSWERS), fraction=True, marks=marks),
        Panel("selection", x, share, _series(rows, _SELECTION), fraction=True),
        Panel("bound", x, "bound (nats)", _series(rows, {"bound": "bound"})),
        Panel("weights", x, "effective sample size", _series(rows, {"effective_sample_size": "samples"})),
    ]


def _series(rows: Sequence[dict[str, Any]], names: Mapping[str, str]) -> tuple[Series, ...]:
    """One line a metric that the run has."""
    return tuple(
        Series(name, tuple((float(row.get("iteration", 0)), row[key]) for row in rows))
        for key, name in names.items()
        if any(row[key] is not None for row in rows)
    )
