"""A table of metrics, written for every reader: CSV, Markdown, HTML.

In: columns and rows of cells. Out: text. An `Interval` is shown as `mean ± half its width`, in CSV as three
columns (`x`, `x low`, `x high`); None, which means that a metric does not apply, as a dash or nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ragdro.evaluation.significance import Interval, student_interval
from ragdro.units import number

Cell: TypeAlias = str | int | float | Interval | None


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` have a cell for each of `columns`; the first column says what a row is."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows)

    def shown(self) -> list[list[str]]:
        """The cells as a person reads them."""
        return [[shown(cell) for cell in row] for row in self.rows]

    def as_markdown(self) -> str:
        """A Markdown table."""
        lines = [self.columns, ["---"] * len(self.columns), *self.shown()]
        return "".join("| " + " | ".join(c.replace("|", "\\|") for c in line) + " |\n" for line in lines)

    def as_csv(self) -> str:
        """CSV with full precision."""
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in range(len(self.columns))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_expanded(wide, self.columns, lambda name: (name, f"{name} low", f"{name} high")))
        for row in self.rows:
            writer.writerow(_expanded(wide, row, _three))
        return text.getvalue()


def shown(cell: Cell) -> str:
    """A cell as a person reads it."""
    if cell is None:
        return "–"
    if isinstance(cell, Interval):
        return f"{number(cell.mean)} ± {number((cell.high - cell.low) / 2, like=cell.mean)}"
    return number(cell) if isinstance(cell, float) else str(cell)


def estimate(values: Sequence[float | None]) -> Interval | float | None:
    """What several runs (seeds) say: mean with its 95 % interval, one run's value as it is, None for none.

    A metric that some of the runs lack does not apply to them together.
    """
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return None
    return known[0] if len(known) == 1 else student_interval(known)


def _three(cell: Cell) -> tuple[Cell, Cell, Cell]:
    if isinstance(cell, Interval):
        return cell.mean, cell.low, cell.high
    return cell, None, None


def _expanded(wide: Sequence[bool], cells: Sequence[Cell], three: object) -> Iterator[Cell]:
    assert callable(three)
    for is_wide, cell in zip(wide, cells, strict=True):
        yield from three(cell) if is_wide else (cell,)
