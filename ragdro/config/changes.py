"""What a retriever's setting changes: its index, what is found in it, or neither.

Each setting says it beside its default, as in `device: Annotated[str | None, Changes.NOTHING] = Field(...)`;
one that says nothing changes both. In: settings. Out: those of their values that a cache's keys are made of.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ragdro.config.base import fields_by_key, value_of


class Changes(Enum):
    """What a setting changes, where that is not both the index and its candidates."""

    CANDIDATES = "what is found, not the index"
    RESTARTS = "where a build that was killed can be resumed, and nothing of a finished one"
    CONTENT = "what it names counts, not where that lies: the retriever's fingerprint has it"
    NOTHING = "how fast or how patiently, and nothing else"


def values_that_change(settings: BaseModel, *further: Changes) -> dict[str, Any]:
    """By key the JSON values of the settings that change an index, and of those that change `further`."""
    values = {
        key: _of(value_of(settings, key), further)
        for key, field in fields_by_key(type(settings)).items()
        if (changes := _changes(field)) is None or changes in further
    }
    return {**values, **to_jsonable_python(settings.model_extra or {})}


def with_whole_paths(settings: BaseModel) -> dict[str, Any]:
    """All JSON values of the settings; a file or folder that one names stands with its whole path, so that it
    is found from any folder."""
    whole = {}
    for key, field in fields_by_key(type(settings)).items():
        value = value_of(settings, key)
        if _changes(field) is Changes.CONTENT and value is not None and Path(value).exists():
            whole[key] = str(Path(value).resolve())
        else:
            whole[key] = _whole(value)
    return {**whole, **to_jsonable_python(settings.model_extra or {})}


def _of(value: Any, further: tuple[Changes, ...]) -> Any:
    if isinstance(value, BaseModel):
        return values_that_change(value, *further)
    if isinstance(value, tuple):
        return [_of(one, further) for one in value]
    return to_jsonable_python(value)


def _whole(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return with_whole_paths(value)
    if isinstance(value, tuple):
        return [_whole(one) for one in value]
    return to_jsonable_python(value)


def _changes(field: FieldInfo) -> Changes | None:
    return next((one for one in field.metadata if isinstance(one, Changes)), None)
