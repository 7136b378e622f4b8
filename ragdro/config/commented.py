"""A config file of a few keys, each with a comment: the field's own description, and why this value.

In: nested plain values and reasons by dotted key. Out: YAML text that `load_config` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ragdro.config.reference import sections

_COLUMN = 40


def commented(values: Mapping[str, Any], reasons: Mapping[str, str], head: str) -> str:
    """The text of the file; `head` is its first comment."""
    meanings = {
        f"{place}.{setting.name}" if place else setting.name: setting.description
        for section in sections()
        for place in section.written
        for setting in section.settings
        if setting.name != "kind"
    }
    return "\n".join([f"# {head}", *_lines(values, reasons, meanings, "", "")]) + "\n"


def _lines(
    values: Mapping[str, Any],
    reasons: Mapping[str, str],
    meanings: Mapping[str, str],
    place: str,
    indent: str,
) -> Iterator[str]:
    for name, value in values.items():
        key = f"{place}.{name}" if place else name
        inner = isinstance(value, Mapping)
        line = f"{indent}{name}:" + ("" if inner else f" {_written(value)}")
        comment = "; ".join(filter(None, (meanings.get(key, ""), reasons.get(key, ""))))
        yield f"{line:<{_COLUMN}}  # {comment}" if comment else line
        if inner:
            yield from _lines(value, reasons, meanings, key, f"{indent}  ")


def _written(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n...\n").strip()
