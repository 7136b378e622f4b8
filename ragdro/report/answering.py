"""Greedy against marginal answers as a person reads them: a table, and a figure of risk and calibration.

In: what `ragdro.evaluation.answering.compare_ways` found. Out: `answering.md`, `answering.csv` and
`answering.png` in a folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ragdro.evaluation.answering import COVERAGES
from ragdro.files import write_atomically
from ragdro.report.plot import Panel, Series, draw
from ragdro.report.table import Table

_WAYS = ("greedy", "marginal")
_COLUMNS = {
    "exact_match": "exact match",
    "f1": "F1",
    "mean_confidence": "mean confidence",
    "risk_coverage_area": "risk–coverage area",
    "best_risk_coverage_area": "its least",
    "calibration_error": "calibration error",
    "brier": "Brier score",
}
_POINTS = 40
"""The curve is drawn with about so many."""


def write_answering(ways: Mapping[str, Any], folder: Path, title: str) -> list[Path]:
    """Write table and figure into `folder`, which is made; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table = answering_table(ways)
    markdown, csv, figure = (folder / f"answering.{kind}" for kind in ("md", "csv", "png"))
    write_atomically(markdown, table.as_markdown())
    write_atomically(csv, table.as_csv())
    draw(answering_panels(ways), title, figure)
    return [markdown, csv, figure]


def answering_table(ways: Mapping[str, Any]) -> Table:
    """A row a way of answering; risk at a coverage is with the least threshold that answers so many."""
    columns = [f"risk at {c}" for c in COVERAGES]
    rows = [
        (
            way,
            *(ways[way][key] for key in _COLUMNS),
            *(ways[way]["at_coverage"][str(c)]["risk"] for c in COVERAGES),
        )
        for way in _WAYS
    ]
    return Table(("answers", *_COLUMNS.values(), *columns), tuple(rows))


def answering_panels(ways: Mapping[str, Any]) -> list[Panel]:
    """Risk by coverage, and exact match by confidence."""
    curves = [Series(way, _thinned(ways[way]["curve"])) for way in _WAYS]
    bins = [
        Series(way, tuple((b["confidence"], float(b["score"])) for b in ways[way]["bins"])) for way in _WAYS
    ]
    even = Series("calibrated", ((0.0, 0.0), (1.0, 1.0)))
    return [
        Panel("risk and coverage", "fraction answered", "1 − exact match", tuple(curves), fraction=True),
        Panel("calibration", "mean confidence of a bin", "exact match", (*bins, even), fraction=True),
    ]


def _thinned(curve: Sequence[Mapping[str, float]]) -> tuple[tuple[float, float], ...]:
    step = max(1, len(curve) // _POINTS)
    kept = [*curve[:-1:step], curve[-1]]
    return tuple((point["coverage"], point["risk"]) for point in kept)
