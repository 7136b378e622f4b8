"""Template files: found by name, path or import path, and checked.

In: what a config calls a template. Out: a `PromptTemplate`, or a `ConfigError` naming the file and what in it
is wrong.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Any

from ragdro.access import absent
from ragdro.config.plugins import is_import_path, load_object
from ragdro.config.yaml import parse_yaml, read_yaml
from ragdro.errors import ConfigError, brief
from ragdro.prompts.template import PromptTemplate

_SLOTS = {
    "user": {"question", "passages", "n", "k", "read"},
    "passage": {"identifier", "title", "text"},
    "read": {"title", "text"},
    "start": set(),
    "answer": set(),
    "system": set(),
}


def load_template(source: str) -> PromptTemplate:
    """A template by name (a file in `ragdro/prompts/`), by path, or by import path (`package.module:NAME`, a
    mapping with the keys of a template file).

    Raises `ConfigError` naming the file for a missing file, an unknown key or an unknown slot.
    """
    path = Path(source)
    if is_import_path(source) and path.suffix not in {".yaml", ".yml"}:
        return _template(load_object(source, "prompt"), source)
    packaged = files("ragdro.prompts") / f"{source}.yaml"
    if path.suffix not in {".yaml", ".yml"}:
        if not packaged.is_file():
            names = sorted(
                f.name.removesuffix(".yaml") for f in files("ragdro.prompts").iterdir() if "yaml" in f.name
            )
            raise ConfigError(
                f"no prompt template named '{source}'; there are {', '.join(names)}, or give a path"
            )
        return _template(parse_yaml(packaged.read_text(encoding="utf-8"), source), source)
    if not path.is_file():
        raise ConfigError(f"{source}: {absent(path, 'prompt template')}")
    return _template(read_yaml(path), source)


def _template(fields: Any, source: str) -> PromptTemplate:
    if not isinstance(fields, dict) or not {"user", "passage"} <= set(fields) <= set(_SLOTS):
        raise ConfigError(
            f"{source}: a prompt template has the keys user, passage and, optionally, read, start, answer and"
            " system"
        )
    for key, value in fields.items():
        if not isinstance(value, str):
            raise ConfigError(f"{source}: '{key}' must be a text, is {brief(value)}")
        try:
            slots = [parts[1:] for parts in Formatter().parse(value) if parts[1] is not None]
        except ValueError as error:
            raise ConfigError(f"{source}: '{key}': {error} (a brace that is meant is doubled)") from error
        for name, spec, conversion in slots:
            if name not in _SLOTS[key] or spec or conversion:
                raise ConfigError(f"{source}: unknown slot {{{brief(name)[1:-1]}}} in '{key}'")
    if "{question}" not in fields["user"] or "{passages}" not in fields["user"]:
        raise ConfigError(f"{source}: 'user' needs the slots {{question}} and {{passages}}")
    if ("{read}" in fields["user"]) != ("read" in fields):
        raise ConfigError(f"{source}: the slot {{read}} of 'user' and the key 'read' go together")
    if not fields.get("answer", "x").strip():
        raise ConfigError(f"{source}: 'answer' must say something, such as: Answer")
    return PromptTemplate(**fields)
