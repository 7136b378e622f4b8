"""What a probability of a selection means, in words.

In: places and probabilities. Out: `chosen 2nd with probability 0.97, given the first` and
`in the list: 0.99 ± 0.01`. The first is p(z_t | z_<t, x), given the choices before it; the second adds
up all lists that hold the passage (`ragdro.selection.inclusion`). Of a union of lists there is the second
alone, and of passages that are chosen apart from one another the first is given nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragdro.units import probability as written

_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def ordinal(number: int) -> str:
    """1st, 2nd, 11th, 23rd."""
    ending = "th" if number % 100 in (11, 12, 13) else _ENDINGS.get(number % 10, "th")
    return f"{number}{ending}"


def in_words(record: Mapping[str, Any], place: int, entry: Mapping[str, Any]) -> str:
    """Of a record the passage that was read at `place` (from 0): what its probabilities say."""
    kind = record.get("probability_of", "choice")
    if kind != "inclusion":
        parts = [chosen(place, entry["probability"], alone=kind == "first_choice"), included(entry)]
        return "; ".join(filter(None, parts))
    known = {"inclusion": entry["probability"], "inclusion_error": 0.0, **entry}
    return f"read {ordinal(place + 1)}; {included(known)}"


def chosen(place: int, probability: float | None, *, alone: bool = False) -> str:
    """What was chosen at `place` (from 0), `alone`: whatever stands before it. Nothing was chosen where there
    is no probability."""
    if probability is None:
        return f"read {ordinal(place + 1)}, in the retriever's order"
    given = "" if place == 0 or alone else ", given the first" + ("" if place == 1 else f" {place}")
    return f"chosen {ordinal(place + 1)} with probability {written(probability)}{given}"


def included(entry: Mapping[str, Any]) -> str:
    """How probable a passage is to be in the list at all, ± twice its standard error where it is estimated.
    Nothing where the entry does not say."""
    probability, error = entry.get("inclusion"), entry.get("inclusion_error")
    if probability is None or error is None:
        return ""
    return f"in the list: {written(probability)}" + (f" ± {2 * error:.2f}" if error else "")
