"""What is wrong with a value, in words: one line with its key, what is allowed, and the value that was given,
whoever checks it. Imports no torch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ragdro.config.base import FROM_ENVIRONMENT, IMPORT_PATH, NAME, URL, fields_by_key
from ragdro.config.objective import objective_keys
from ragdro.errors import brief

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "model": "a mapping of keys to values",
    "date": "a date, such as 2026-01-31",
}
"""What a value must be, by the beginning of the checker's name for what it is not."""

_NOT_A = ("type", "parsing", "parsing_size", "from_float", "attributes_type", "from_datetime")
"""The ends of those names."""

_PATTERNS = {
    IMPORT_PATH: "an import path, such as package.module:Name",
    NAME: "letters, digits, '.', '_' and '-' alone, and begin with a letter or a digit",
    URL: "an address that begins with http:// or https://",
    FROM_ENVIRONMENT: "$NAME, of the environment variable that has the value",
}

_NOT_ONE_OF = re.compile(r"'.*' is not one of ('.*')\.?")
"""An option's own words."""

_PHRASES = {
    "Value error, ": "",
    "Input should be ": "must be ",
    "String should match pattern": "must match",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}

_RENAMED = {
    "questions_per_step": "batch_size",
    "tokens_per_batch": "max_tokens_per_micro_batch",
    "degrade": "corrupt_candidates",
}
"""Keys of versions before 0.2; CHANGELOG.md lists them too."""

_FEW = 12
"""So many keys of a section are named where one is unknown."""


def describe(error: ValidationError, root: type[BaseModel], section: str = "") -> str:
    """The first complaint in one line: dotted key, what is allowed, the value. `section` is the key of `root`
    itself."""
    errors = [_flat(one) for one in error.errors(include_url=False)]
    places = [_place(root, one["loc"]) for one in errors]
    first, place = errors[0], places[0]
    key = ".".join([section, *place.parts] if section else place.parts)
    if first["type"] == "extra_forbidden":
        return _unknown(key, sorted(_keys(root, f"{section}." if section else "")))
    texts = [
        in_words(one, there.models)
        for one, there in zip(errors, places, strict=True)
        if there.parts == place.parts  # the members of a union complain each
    ]
    if first["type"] == "union_tag_invalid":
        key = f"{key}.{_kind(first)}"
    elif place.nullable and texts[0].startswith("must be "):
        texts.append("null")
    message = ", or ".join([texts[0], *(text.removeprefix("must be ") for text in texts[1:])])
    return f"{key.rstrip('.')}: {message}{_shown(first)}" if key else message


def complaint(error: Mapping[str, Any]) -> str:
    """What is wrong with a value that has no key in a config, and the value."""
    return f"{in_words(error)}{_shown(error)}"


def in_words(error: Mapping[str, Any], models: Sequence[type[BaseModel]] = ()) -> str:
    """What is wrong with a value; `models` are the settings that it could be of, by their kinds."""
    context, kind, message = error.get("ctx", {}), str(error["type"]), str(error["msg"])
    beginning, _, rest = re.sub("(_datetime)_.*", r"\1", kind).partition("_")
    if rest in _NOT_A and beginning in _TYPES:
        return f"must be {_TYPES[beginning]}"
    match kind:
        case "missing":
            return "must be given"
        case "literal_error":
            return f"must be {context['expected'].replace(chr(39), '')}"
        case "string_pattern_mismatch" if context.get("pattern") in _PATTERNS:
            return f"must be {_PATTERNS[context['pattern']]}"
        case "too_short" | "string_too_short":
            what = "text" if kind.startswith("string") else "a list"
            return f"must be {what} of {context['min_length']} or more"
        case "union_tag_invalid":
            return f"must be {_listed(context['expected_tags'].replace(chr(39), '').split(', '))}"
        case "union_tag_not_found":
            kinds = [name for model in models for name in _names(model, _kind(error))]
            return f"must be a mapping whose {_kind(error)} is {_listed(kinds)}"
    for theirs, ours in _PHRASES.items():
        message = message.replace(theirs, ours)
    named = _NOT_ONE_OF.fullmatch(message)
    return f"must be {_listed(named[1].replace(chr(39), '').split(', '))}" if named else message


def _flat(error: Mapping[str, Any]) -> dict[str, Any]:
    """A complaint of values that were validated inside another validator, at its own place."""
    if error["type"] != "nested":
        return dict(error)
    inner = error["ctx"]
    return _flat(
        {
            "loc": (*error["loc"], *inner["place"]),
            "type": inner["type"],
            "msg": inner["message"],
            "input": inner["input"],
            "ctx": inner["context"],
        }
    )


def _shown(error: Mapping[str, Any]) -> str:
    """The value that was given, as YAML has its constants; no secret, and not a whole section that lacks
    something or whose parts do not go together."""
    value, kind = error["input"], error["type"]
    if kind == "missing" or (kind == "value_error" and isinstance(value, Mapping)):
        return ""
    if error.get("ctx", {}).get("pattern") == FROM_ENVIRONMENT:
        return ""
    if kind == "union_tag_invalid":
        value = error["ctx"]["tag"]
    elif kind == "string_type" and type(value) in (int, float):
        return f" (value: {value}); as text it is '\"{value}\"'"
    constants = {None: "null", True: "true", False: "false"}
    plain = value is None or isinstance(value, bool)
    return f" (value: {constants[value] if plain else brief(value)})"


def _kind(error: Mapping[str, Any]) -> str:
    """The key that tells settings apart: an index and a source have a type, others a kind."""
    return "type" if "type" in str(error.get("ctx", {}).get("discriminator")) else "kind"


def _listed(kinds: Sequence[str]) -> str:
    """Names as a sentence has them; one's own class is one of them where it is allowed."""
    ours = [kind for kind in kinds if kind != "custom"]
    *others, last = [*ours, "a class of your own as package.module:Name"] if len(ours) < len(kinds) else ours
    return f"{', '.join(others)} or {last}" if others else last


@dataclass(frozen=True)
class _Place:
    parts: list[str]
    """Of the dotted key."""
    models: list[type[BaseModel]]
    """The settings that stand there."""
    nullable: bool


def _place(root: type[BaseModel], location: Sequence[int | str]) -> _Place:
    """Where a complaint's value stands: its location without the checker's names for members of unions."""
    parts: list[str] = []
    models, union, nullable = [root], False, False
    for name in location:
        fields = {k: f for model in models for k, f in fields_by_key(model).items()}
        if name == "[key]":  # a mapping's key is wrong, and not what it has
            return _Place([*parts, ""], [], nullable=False)
        if isinstance(name, int):
            parts.append(str(name))
        elif union:
            own = [model for model in models if name in (*_names(model, "kind"), *_names(model, "type"))]
            models, union = own or models, False
        else:
            parts.append(name)
            annotation = fields[name].annotation if name in fields else None
            models = list(_models_in(annotation))
            members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
            nullable = type(None) in members
            union = len(models) > 1 or (not models and len(members) - nullable > 1)
    return _Place(parts, models, nullable)


def _names(model: type[BaseModel], key: str) -> tuple[str, ...]:
    """What a kind or type is called in a config; 'custom' where it is any import path."""
    field = model.model_fields.get(key)
    return () if field is None else get_args(field.annotation) or ("custom",)


def _unknown(key: str, known: Sequence[str]) -> str:
    """A key that there is not, and one that there is."""
    parts = key.split(".")
    renamed = ".".join(_RENAMED.get(name, name) for name in parts)
    if renamed != key and renamed in known:
        return f"key '{key}' is called '{renamed}' now"
    section = key.rpartition(".")[0]
    if ".".join(name for name in parts if not name.isdigit()) in known:  # of another kind
        return f"key '{key}' does not go with this {section}'s kind"
    possible = [one for one in known if not key.startswith(f"{one}.")]
    near = difflib.get_close_matches(key, possible, n=1, cutoff=0.6)
    near = near or [k for k in possible if k.rpartition(".")[2] == parts[-1]][:1]
    if near:
        return f"unknown key '{key}'; did you mean '{near[0]}'?"
    beside = [one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == section]
    there = f"there are {', '.join(beside)}" if 0 < len(beside) <= _FEW else "list them with: ragdro config"
    return f"unknown key '{key}'; {there}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key that a config may have."""
    for name, field in fields_by_key(model).items():
        yield prefix + name
        if f"{prefix}{name}" == "objective":
            yield from (f"objective.{key}" for key in objective_keys())
        for inner in _models_in(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, UnionType) or get_args(annotation):
        for inner in get_args(annotation):
            yield from _models_in(inner)
