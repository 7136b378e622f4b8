"""Classes by name: the package's own, and those that a user's package brings (`package.module:ClassName`)."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from ragdro.errors import ConfigError


def is_import_path(kind: str) -> bool:
    """Whether a kind names a class of somebody's package rather than one of ours."""
    return ":" in kind


def load_class(path: str, key: str) -> type[Any]:
    """The class at `package.module:ClassName`. Raises `ConfigError` beginning with `key` where there is
    none."""
    value = load_object(path, key)
    if not isinstance(value, type):
        raise ConfigError(f"{key}: {path} is not a class")
    return value


def load_object(path: str, key: str) -> Any:
    """What stands at `package.module:name`. Raises `ConfigError` beginning with `key` where there is
    nothing."""
    module, _, name = path.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"{key}: {path}: cannot be imported ({error}); is its folder on PYTHONPATH?"
        ) from error
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{key}: {path}: module '{module}' has no '{name}'") from error


@cache
def packaged_modules(package: str) -> tuple[str, ...]:
    """The names of a package's modules, none of which is imported."""
    spec = find_spec(package)
    assert spec is not None
    return tuple(sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)))


@contextmanager
def nested() -> Iterator[None]:
    """A complaint about values that are validated inside another validator keeps its place and kind."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _nested(
            first["msg"], list(first["loc"]), first["type"], first["input"], first.get("ctx", {})
        ) from error


def misplaced(key: str, message: str, value: Any) -> PydanticCustomError:
    """The complaint, raised inside another validator, that `key` must not be given here."""
    return _nested(message, [key], "value_error", value, {})


def _nested(
    message: str, place: list[Any], kind: str, value: Any, context: dict[str, Any]
) -> PydanticCustomError:
    kept = {"message": message, "place": place, "type": kind, "input": value, "context": context}
    return PydanticCustomError("nested", "{message}", kept)
