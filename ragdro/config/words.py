"""What is wrong with a value, in words: a checker's own message may name its parts. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragdro.config.base import IMPORT_PATH, NAME
from ragdro.errors import brief

_PATTERNS = {
    IMPORT_PATH: "must be an import path, such as package.module:Name",
    NAME: "must be letters, digits, '.', '_' and '-' alone, and begin with a letter or a digit",
}


def in_words(error: Mapping[str, Any], key: str) -> tuple[str, str]:
    """The dotted key and what is wrong with it, where a checker names its own parts."""
    context = error.get("ctx", {})
    kind = "type" if "type" in str(context.get("discriminator")) else "kind"
    if error["type"] == "union_tag_invalid":
        there = context["expected_tags"].replace("'", "").removesuffix(", custom")
        own = ", or a class of your own as package.module:Name" if key == "retriever" else ""
        return f"{key}.{kind}", f"no such {kind} {brief(context['tag'])}; there are {there}{own}"
    if error["type"] == "union_tag_not_found":
        return key, f"must be a mapping that names its {kind}, such as {{{kind}: …}}"
    if error["type"] == "string_pattern_mismatch" and context.get("pattern") in _PATTERNS:
        return key, _PATTERNS[context["pattern"]]
    return key, str(error["msg"]).removeprefix("Value error, ")
