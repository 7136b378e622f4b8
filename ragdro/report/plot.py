"""Metrics made to be read: panels of lines or of dots, with 95 % intervals, in one style.

In: `Panel`s. Out: PNG or SVG. Colours are Okabe and Ito's, which the colour-blind can distinguish; every
series has a marker and a dash of its own besides.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ragdro.evaluation.significance import Interval
from ragdro.files import atomic_file

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_NAMES_INSIDE = 4
"""More names than that stand below their panel."""
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "ragdro",
}


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind: (x, value), the value with its interval where there is one; None leaves a gap."""

    label: str
    points: tuple[tuple[float, Interval | float | None], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `x` and `y` name what is on them, with units.

    Where `categories` are given the points' x are places in that list: they are rows from the top, and the
    values lie on the horizontal axis. `scale` is the x axis', `fraction` fixes the values' axis to [0, 1].
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    categories: tuple[str, ...] | None = None
    scale: Literal["linear", "log2"] = "linear"
    log_y: bool = False
    fraction: bool = False
    marks: tuple[tuple[str, float], ...] = field(default=())
    """Values to compare with, as dotted lines with a name."""


def draw(panels: Sequence[Panel], title: str, *paths: Path) -> None:
    """Draw the panels side by side into files whose suffixes say the format."""
    for path in paths:
        picture = render(panels, title, path.suffix.removeprefix("."))
        with atomic_file(path) as file:
            file.write(picture)


def render(panels: Sequence[Panel], title: str, kind: str, *, small: bool = False) -> bytes:
    """The figure as the bytes of a `png` or `svg` file, the same for the same panels. `small`: panels a
    quarter of a page wide, the names below each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        height = max(3.4, 1.2 + 0.32 * max(len(p.categories or ()) for p in panels))
        height += 0.2 * max(_names(p) for p in panels) if any(_outside(p) for p in panels) else 0
        width, height = (3.1, 3.3) if small else (4.2, height)
        figure, axes = pyplot.subplots(
            1, len(panels), figsize=(width * len(panels), height), layout="constrained", squeeze=False
        )
        for place, panel in zip(axes[0], panels, strict=True):
            _draw_panel(place, panel, below=small)
        if title:
            figure.suptitle(title, fontsize=10)
        picture = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(picture, format=kind, dpi=130, metadata=metadata)
        pyplot.close(figure)
    return picture.getvalue()


def _draw_panel(axes: Any, panel: Panel, *, below: bool) -> None:
    for index, series in enumerate(panel.series):
        _draw_series(axes, series, index, panel)
    for name, value in panel.marks:
        line = axes.axvline if panel.categories else axes.axhline
        line(value, color="0.35", linestyle=":", linewidth=1.2, label=name)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.y if panel.categories else panel.x)
    axes.set_ylabel(panel.x if panel.categories else panel.y)
    if panel.categories:
        axes.set_yticks(range(len(panel.categories)), panel.categories)
        axes.set_ylim(len(panel.categories) - 0.5, -0.5)
    else:
        ticks = sorted({x for series in panel.series for x, _ in series.points})
        if panel.scale == "log2":
            axes.set_xscale("log", base=2)
        if len(ticks) <= 13:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
    if panel.log_y:
        axes.set_yscale("log")
    if panel.fraction:
        (axes.set_xlim if panel.categories else axes.set_ylim)(-0.02, 1.02)
    if _outside(panel) or (below and _names(panel) > 1):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    elif _names(panel) > 1:
        axes.legend()


def _names(panel: Panel) -> int:
    return len(panel.series) + len(panel.marks)


def _outside(panel: Panel) -> bool:
    """Whether the names stand below the panel."""
    return _names(panel) > _NAMES_INSIDE


def _draw_series(axes: Any, series: Series, index: int, panel: Panel) -> None:
    """One series, a little beside the others, so that their intervals can be distinguished."""
    rows = panel.categories is not None
    known = [(x, value) for x, value in series.points if value is not None]
    places = _beside([x for x, _ in known], index - (len(panel.series) - 1) / 2, panel)
    means = [v.mean if isinstance(v, Interval) else v for _, v in known]
    below = [v.mean - v.low if isinstance(v, Interval) else 0.0 for _, v in known]
    above = [v.high - v.mean if isinstance(v, Interval) else 0.0 for _, v in known]
    x, y = (means, places) if rows else (places, means)
    axes.errorbar(
        x,
        y,
        **{"xerr" if rows else "yerr": [below, above] if any(below) or any(above) else None},
        color=_COLOURS[index % len(_COLOURS)],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle="none" if rows else _DASHES[index % len(_DASHES)],
        markersize=4.5,
        linewidth=1.4,
        elinewidth=1.0,
        capsize=2.5,
        label=series.label,
    )


def _beside(places: list[float], step: float, panel: Panel) -> list[float]:
    """Places moved by `step` small widths."""
    if panel.categories is not None:
        return [x + 0.18 * step for x in places]
    if panel.scale == "log2":
        return [x * 2 ** (0.04 * step) for x in places]
    every = [x for series in panel.series for x, _ in series.points]
    return [x + 0.008 * step * (max(every) - min(every)) for x in places]
