"""Annotations of settings in words: what a value may be, and between which limits.

In: a pydantic field or its annotation. Out: text such as 'whole number or null' and '>= 1'.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ragdro.config.base import IMPORT_PATH

_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    NoneType: "null",
}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def type_name(annotation: Any) -> str:
    """What a value may be, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        named = any(getattr(one, "pattern", None) == IMPORT_PATH for one in _constraints(inner[1:]))
        return "package.module:name" if named else type_name(inner[0])
    if origin is Literal:
        return either([str(one) for one in inner])
    if origin in (Union, UnionType):
        options = [
            word
            for one in inner
            for word in (map(str, get_args(one)) if get_origin(one) is Literal else [type_name(one)])
        ]
        return either(list(dict.fromkeys(options)))
    if origin in (list, tuple):
        return f"list of {_several(inner[0])}"
    if origin in (dict, Mapping):
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def limits(field: FieldInfo) -> str:
    """The limits of a field's value, such as '>= 0, < 1'; empty for none."""
    texts = []
    for constraint in _constraints(field.metadata):
        texts += [
            f"{sign} {getattr(constraint, name):g}"
            for name, sign in _SIGNS.items()
            if hasattr(constraint, name)
        ]
        if hasattr(constraint, "min_length"):
            texts.append(f"at least {constraint.min_length}")
        if getattr(constraint, "pattern", None) == IMPORT_PATH:
            texts.append("package.module:name")
        elif getattr(constraint, "pattern", None):
            texts.append(f"matches {constraint.pattern}")
    return ", ".join(texts)


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that a value may be of; none for a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return classes_in(inner[0])
    if origin in (Union, UnionType):
        return list(dict.fromkeys(named for one in inner for named in classes_in(one)))
    return []


def _constraints(metadata: Any) -> list[Any]:
    """Single constraints; a nested pydantic field's are its own metadata."""
    constraints: list[Any] = []
    for one in metadata:
        constraints += _constraints(one.metadata) if isinstance(one, FieldInfo) else [one]
    return constraints


def _several(annotation: Any) -> str:
    return "sections" if classes_in(annotation) else type_name(annotation)


def either(words: list[str]) -> str:
    """'a, b or c'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
