"""Numbers as a person reads them, written one way everywhere: terminal, log, report, verdict."""

from __future__ import annotations

import math


def counted(count: int, noun: str = "questions") -> str:
    """A number and a noun given in the plural: '1 question', '2,000 test questions', '1 try'."""
    return f"{count:,} {_singular(noun) if count == 1 else noun}"


def _singular(noun: str) -> str:
    for plural, singular in (("ies", "y"), ("sses", "ss")):
        if noun.endswith(plural):
            return noun.removesuffix(plural) + singular
    return noun.removesuffix("s")


def number(value: int | float, *, sign: bool = False, like: float | None = None) -> str:
    """What was measured, with three decimals, fewer where it is large (where `like` is), and a true minus:
    0.750, −0.704, 23.4; with `sign` +0.050 as well."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "−∞" if value < 0 else "∞"
    large = abs(value if like is None else like)
    places = 0 if large >= 100 else 1 if large >= 20 else 3
    written = f"{abs(value):.{places}f}"
    if not float(written):
        return written
    return f"{'−' if value < 0 else '+' if sign else ''}{written}"


def probability(p: int | float) -> str:
    """A probability with two decimals that never says 0 or 1 where it is neither: 0.97, > 0.99."""
    if 0.995 < p < 1:
        return "> 0.99"
    if 0 < p < 0.005:
        return "< 0.01"
    return f"{p:.2f}"


def as_bytes(size: int | float) -> str:
    """'596 MiB', '14.2 GiB'."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def as_count(number: int | float) -> str:
    """Three digits and a prefix: 66.1 k, 1.24 P."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return f"{number:.0f}"
