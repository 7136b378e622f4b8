"""Lights at both sides of every threshold, and in the docs."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from ragdro.training import lights as module
from ragdro.training.lights import as_row, lights

GOOD = {"selector_entropy": 1.0, "effective_sample_size": 5.0, "distinct_fraction": 0.5, "bound": -1.0}
HELD_OUT = {"kl_to_previous": 0.5, "bound": -1.2}


def colour(name: str, training: dict[str, Any], held_out: dict[str, Any]) -> str:
    (light,) = (x for x in lights(8, {**GOOD, **training}, {**HELD_OUT, **held_out}) if x.name == name)
    return light.colour


@pytest.mark.parametrize(
    ("name", "key", "of", "values"),
    [
        ("entropy", "selector_entropy", "training", [math.log(1.51), math.log(1.49), math.log(1.04)]),
        ("distinct lists", "distinct_fraction", "training", [1.51 / 8, 1.49 / 8, 1.04 / 8]),
        ("ESS", "effective_sample_size", "training", [2.01, 1.99, 1.49]),
        ("KL", "kl_to_previous", "held_out", [1.99, 2.01, 10.01]),
        ("training − held out", "bound", "held_out", [-1.49, -1.51, -3.01]),
    ],
)
def test_each_light_turns_yellow_and_red(name: str, key: str, of: str, values: list[float]) -> None:
    changes = [({key: v}, {}) if of == "training" else ({}, {key: v}) for v in values]
    assert [colour(name, *change) for change in changes] == ["green", "yellow", "red"]


def test_what_was_not_measured_has_no_light() -> None:
    assert [light.name for light in lights(8, GOOD)] == ["entropy", "distinct lists", "ESS"]
    assert len(lights(8, GOOD, {"kl_to_previous": None, "bound": None})) == 3 and lights(1, GOOD) == []


def test_a_bound_of_more_samples_is_not_compared_with_one_of_fewer() -> None:
    names = [[light.name for light in lights(8, GOOD, HELD_OUT, m)] for m in (7, 8, 9)]
    assert ["training − held out" in row for row in names] == [False, True, True]


@pytest.mark.parametrize("bound", [-math.inf, math.nan, None])
def test_a_training_bound_that_is_not_finite_is_red_whatever_it_is_compared_with(bound: float | None) -> None:
    for row in (lights(8, {**GOOD, "bound": bound}, HELD_OUT, m) for m in (4, 8)):
        assert [light.colour for light in row if "bound" in light.name or "held out" in light.name] == ["red"]
    assert lights(8, {**GOOD, "bound": bound})[-1].colour == "red"


def test_a_row_says_the_numbers() -> None:
    row = as_row(lights(8, GOOD, HELD_OUT))
    assert row.startswith("● entropy 1.000 nats  ● distinct lists 4.000 of 8  ● ESS 5.000 of 8")
    assert as_row(lights(8, {**GOOD, "effective_sample_size": 1.2})).endswith("○ ESS 1.200 of 8")


def test_the_thresholds_are_in_the_docs() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/report.md").read_text()
    page = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", page)  # a link's words
    rows = [line for line in page.splitlines() if line.startswith("| ") and line.count("|") == 5]
    table = {
        cells[0]: cells[1:] for cells in ([c.strip() for c in row.strip("|").split("|")] for row in rows)
    }
    for name, yellow, red in (
        ("entropy", module.FEW_LISTS, module.LEAST_LISTS),
        ("distinct lists", module.FEW_LISTS, module.LEAST_LISTS),
        ("ESS", module.FEW_EFFECTIVE, module.LEAST_EFFECTIVE),
        ("KL", module.FAR, module.TOO_FAR),
        ("training − held out", module.APART, module.FAR_APART),
    ):
        assert f"{yellow:g}" in table[name][1] and f"{red:g}" in table[name][2]
