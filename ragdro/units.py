"""Sizes and large numbers as a person reads them."""

from __future__ import annotations


def counted(count: int, noun: str = "questions") -> str:
    """A number and a noun given in the plural: '1 question', '2,000 test questions', '1 try'."""
    return f"{count:,} {_singular(noun) if count == 1 else noun}"


def _singular(noun: str) -> str:
    for plural, singular in (("ies", "y"), ("sses", "ss")):
        if noun.endswith(plural):
            return noun.removesuffix(plural) + singular
    return noun.removesuffix("s")


def as_bytes(size: int | float) -> str:
    """'596 MiB', '14.2 GiB'."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def as_count(number: int | float) -> str:
    """Three digits and a prefix: 66.1 k, 1.24 P."""
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {prefix}"
    return f"{number:.0f}"
