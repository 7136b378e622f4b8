"""Numbers with their nouns, and that nothing writes a number before a plural of its own."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ragdro
from ragdro.units import counted

_NOUNS = [
    "questions",
    "passages",
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
        word = str(text.value).split(" ")[1:2]
        if str(text.value).startswith(" ") and word and word[0].rstrip(".,;:)") in _NOUNS and not symbol:
            name = ast.unparse(value.value)
            if name.endswith(("split", "['split']", "suffixes[0]")):
                continue
            found.append(word[0].rstrip(".,;:)"))
    return found
