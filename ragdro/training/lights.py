"""Early alarms of a fit: a row of lights, one a metric of an E-step, green, yellow or red.

In: metrics as `ragdro.training.diagnostics` has them (the `e_step` events of metrics.jsonl). Out: lights with
the number behind each. Pure functions of numbers; imports no torch. Thresholds: docs/how-to/report.md; red
is where `ragdro.algorithms.warnings` says what to try.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ragdro.algorithms.warnings import LEAST_EFFECTIVE, LEAST_LISTS
from ragdro.units import number

Colour: TypeAlias = Literal["green", "yellow", "red"]
SIGNS: Mapping[Colour, str] = {"green": "●", "yellow": "◐", "red": "○"}
"""Shapes besides the colours: a log file has none, and not everybody sees them."""

FEW_LISTS = 1.5
"""Yellow: the selector hesitates between fewer lists, exp(entropy), or draws fewer distinct ones."""
FEW_EFFECTIVE = 2.0
"""Yellow: a smaller effective sample size."""
FAR = 2.0
"""Yellow: the selector moved so many nats in one iteration (KL)."""
TOO_FAR = 10.0
"""Red: so many."""
APART = 0.5
"""Yellow: the bound in training lies so many nats above the held-out one."""
FAR_APART = 2.0
"""Red: so many."""


@dataclass(frozen=True, slots=True)
class Light:
    """`name` of what is watched, its colour, and the number as it is shown."""

    name: str
    colour: Colour
    value: str


def lights(
    samples: int,
    training: Mapping[str, Any],
    held_out: Mapping[str, Any] | None = None,
    held_out_samples: int | None = None,
) -> list[Light]:
    """The lights of an E-step with `samples` draws a question.

    `held_out`: what the stage before measured on validation questions, by the same models, from
    `held_out_samples` draws (None: as many). A bound from more draws is larger, so that it is not compared
    with one from fewer; one that is not finite is trouble of its own. What was not measured has no light, and
    with one sample a question there is nothing to compare.
    """
    if samples < 2:
        return []
    entropy, size = training["selector_entropy"], training["effective_sample_size"]
    distinct = samples * training["distinct_fraction"]
    shown = [
        Light("entropy", _low(math.exp(entropy), FEW_LISTS, LEAST_LISTS), f"{number(entropy)} nats"),
        Light("distinct lists", _low(distinct, FEW_LISTS, LEAST_LISTS), f"{number(distinct)} of {samples}"),
        Light("ESS", _low(size, FEW_EFFECTIVE, LEAST_EFFECTIVE), f"{number(size)} of {samples}"),
    ]
    moved, bound = (None if held_out is None else held_out.get(key) for key in ("kl_to_previous", "bound"))
    if moved is not None:
        shown.append(Light("KL", _high(moved, FAR, TOO_FAR), f"{number(moved)} nats"))
    own = training["bound"]
    if own is None or not math.isfinite(own):
        shown.append(Light("bound in training", "red", "−∞ (no list gives the answer of a question)"))
    elif bound is not None and (held_out_samples is None or samples <= held_out_samples):
        gap = own - bound
        shown.append(
            Light("training − held out", _high(gap, APART, FAR_APART), f"{number(gap, sign=True)} nats")
        )
    return shown


def as_row(row: Sequence[Light]) -> str:
    """One line: `● entropy 2.310 nats  ● ESS 5.600 of 8`."""
    return "  ".join(f"{SIGNS[light.colour]} {light.name} {light.value}" for light in row)


def _low(value: float, yellow: float, red: float) -> Colour:
    """Red below `red`, yellow below `yellow`."""
    return "red" if value < red else "yellow" if value < yellow else "green"


def _high(value: float, yellow: float, red: float) -> Colour:
    """Red above `red`, yellow above `yellow`."""
    return "red" if value > red else "yellow" if value > yellow else "green"
