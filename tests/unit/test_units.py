"""Numbers with their nouns, and that nothing writes a number before a plural of its own."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

import ragdro
from ragdro.units import counted, number, probability

_NOUNS = [
    "questions",
    "passages",
    "gold passages",
    "candidates",
    "records",
    "repeats",
    "iterations",
    "updates",
    "columns",
    "cells",
    "fields",
    "bytes",
    "lists",
    "threads",
    "cores",
    "weights",
    "members",
    "tries",
    "problems",
    "files",
    "models",
    "tokens",
]
_ALWAYS_MORE = {
    # file: what stands before the plural is more than 1 there
    "generator.py": ("tokens",),  # more than a limit
    "thoughts.py": ("tokens",),
    "query_likelihood.py": ("tokens",),
    "selector.py": ("candidates", "tokens"),
    "roles.py": ("tokens",),  # of a whole prompt
    "pool.py": ("files",),
    "base.py": ("tokens",),
}


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "questions", "1 question"),
        (0, "questions", "0 questions"),
        (2000, "test questions", "2,000 test questions"),
        (1, "tries", "1 try"),
        (1, "processes", "1 process"),
        (1, "bytes", "1 byte"),
    ],
)
def test_one_is_no_plural(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (0.75, "0.750", "+0.750"),
        (-0.7036, "−0.704", "−0.704"),
        (0, "0.000", "0.000"),
        (-0.0004, "0.000", "0.000"),
        (-23.44, "−23.4", "−23.4"),
        (150.2, "150", "+150"),
        (-math.inf, "−∞", "−∞"),
        (math.nan, "not a number", "not a number"),
    ],
)
def test_a_number_is_written_one_way(value: float, plain: str, signed: str) -> None:
    assert (number(value), number(value, sign=True)) == (plain, signed)


def test_a_number_beside_another_has_its_decimals() -> None:
    assert (number(0.5, like=25.0), number(150.0, like=-0.5)) == ("0.5", "150.000")


@pytest.mark.parametrize(
    ("p", "text"),
    [(0, "0.00"), (1e-9, "< 0.01"), (0.005, "0.01"), (0.974, "0.97"), (0.99501, "> 0.99"), (1, "1.00")],
)
def test_a_probability_is_neither_0_nor_1_unless_it_is(p: float, text: str) -> None:
    assert probability(p) == text


def test_measured_numbers_are_written_by_one_function() -> None:
    """What is shown of a run has no format of its own: p-values, errors and sizes are other things."""
    root = Path(ragdro.__file__).parent
    own = {
        *("units.py", "progress.py", "report/profile.py", "lm/parity.py", "cli/model.py", "report/paths.py"),
        "report/predictions.py",
        *(
            "runs/vllm_server.py",
            "planning/server.py",
            "lm/engines/base.py",
            "report/choices.py",
            "report/sections.py",
            "evaluation/compare.py",
        ),
    }
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and _rounds(node)
    }
    assert {name for name in found if not name.startswith("tiny/")} <= own


def _rounds(node: ast.FormattedValue) -> bool:
    spec = node.format_spec
    parts = spec.values if isinstance(spec, ast.JoinedStr) else []
    return any(isinstance(p, ast.Constant) and str(p.value).endswith(("f", "%")) for p in parts)


def test_no_message_writes_a_plural_behind_a_number_of_its_own() -> None:
    offences = []
    for path in Path(ragdro.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                offences += [(path.name, noun, node.lineno) for noun in _after_numbers(node)]
    assert not [one for one in offences if one[1] not in _ALWAYS_MORE.get(one[0], ())]


def _after_numbers(node: ast.JoinedStr) -> list[str]:
    """The plurals that stand right behind a value, but for `N = {n} candidates` and values that are names."""
    found = []
    for i, (value, text) in enumerate(zip(node.values, node.values[1:], strict=False)):
        if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
            continue
        before = node.values[i - 1] if i else None
        symbol = isinstance(before, ast.Constant) and str(before.value).endswith(" = ")
        words = str(text.value).split(" ")
        behind = {" ".join(words[1:end]).rstrip(".,;:)") for end in (2, 3)}
        nouns = [noun for noun in _NOUNS if noun in behind]
        if not words[0] and nouns and not symbol:
            name = ast.unparse(value.value)
            if name.endswith(("split", "['split']", "suffixes[0]")):
                continue
            found += nouns
    return found
