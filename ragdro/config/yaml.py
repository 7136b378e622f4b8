"""YAML that anybody wrote: plain values, or one line that names the file.

In: a file or a text. Out: what it holds, made of dicts, lists, strings, numbers, booleans and None.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ragdro.access import recoded
from ragdro.errors import ConfigError

_MAX_CHARACTERS = 2**20
"""More than any config or prompt has, and what the parser reads in seconds."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads `1e-5` as a string, `no`, `off` and `y` as false, `010` as 8 and `1:30` as 90. Here the
    first is the number that everybody means, and the others are words (of a switch: its value, as `no` of
    `language` is Norwegian; of a number: its digits)."""


_OURS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0b[01]+)", "-+0123456789"),
    "float": (
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""How a plain value is written, and what it may begin with."""
_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _OURS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^({_pattern})$"), list(_first))


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file. Raises `ConfigError` naming it."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not YAML: it is not UTF-8 (byte {error.start}); {recoded(path)}"
        ) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The value that `text` writes. Raises `ConfigError` that begins with `name`."""
    if len(text) > _MAX_CHARACTERS:
        raise ConfigError(f"{name}: not YAML: longer than {_MAX_CHARACTERS} characters")
    try:
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
        said = " ".join(" ".join(filter(None, (error.context, error.problem))).split())
        raise ConfigError(f"{name}: not YAML: {place}{said[:300]}") from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        said = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ConfigError(f"{name}: not YAML: {said[:300]}") from error
    except ValueError as error:  # a date or a number that looks like one and is none
        raise ConfigError(f"{name}: not YAML: {' '.join(str(error).split())[:300]}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: not YAML: nested too deeply") from error
    if _is_cyclic(values, ()):
        raise ConfigError(f"{name}: an alias stands inside what it names")
    return values


def _is_cyclic(value: Any, around: tuple[int, ...], seen: set[int] | None = None) -> bool:
    """Whether a list or mapping holds itself; each is looked into once, however many aliases it has."""
    seen = set() if seen is None else seen
    if not isinstance(value, (dict, list)):
        return False
    if id(value) in around:
        return True
    if id(value) in seen:
        return False
    seen.add(id(value))
    inner = value.values() if isinstance(value, dict) else value
    return any(_is_cyclic(one, (*around, id(value)), seen) for one in inner)
