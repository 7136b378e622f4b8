"""What every settings class is: frozen, and closed to keys that do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

from ragdro.config.plugins import misplaced

IMPORT_PATH = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
"""Something of a user's package: `package.module:name`."""

URL = "^https?://"

FROM_ENVIRONMENT = r"^\$[A-Za-z_][A-Za-z0-9_]*$"
"""A secret: no value but the name of the environment variable that has it."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A run's name, which is a folder's."""


class Settings(BaseModel):
    """Base of all config sections; unknown keys and values out of range are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), serialize_by_alias=True
    )

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, values: Any) -> Any:
        """Pydantic takes `true` for 1."""
        for key, field in fields_by_key(cls).items() if isinstance(values, Mapping) else ():
            value, kinds = values.get(key), set(_types(field.annotation))
            if bool in kinds or not kinds & {int, float}:
                continue
            if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
                number = "whole number" if int in kinds else "number"
                several = f"must be a list of {number}s"
                raise misplaced(key, several if tuple in kinds else f"must be a {number}", value)
        return values


def _types(annotation: Any) -> Iterator[Any]:
    """All types that an annotation is made of."""
    yield get_origin(annotation) or annotation
    for inner in get_args(annotation):
        yield from _types(inner)


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a settings class under the keys that a config has for them; a key that is a word of
    Python (`from`) has a field of another name."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def value_of(settings: BaseModel, key: str) -> Any:
    """What a config's key has in `settings`."""
    fields = type(settings).model_fields.items()
    return getattr(settings, next(name for name, field in fields if key == (field.alias or name)))


def named(value: Any) -> Any:
    """A kind's name alone stands for its settings."""
    return {"kind": value} if isinstance(value, str) else value


def kind_or(default: str) -> Callable[[Any], Any]:
    """What tells settings of several kinds apart: `kind`, and `default` where a mapping has none."""

    def kind_of(value: Any) -> Any:
        return value.get("kind", default) if isinstance(value, Mapping) else getattr(value, "kind", None)

    return kind_of
