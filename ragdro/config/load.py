"""YAML and dotted overrides in, a checked `Config` out; every complaint names the dotted key."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ragdro.access import absent
from ragdro.config.base import fields_by_key
from ragdro.config.objective import objective_keys
from ragdro.config.words import in_words
from ragdro.config.yaml import parse_yaml, read_yaml
from ragdro.errors import ConfigError, brief

if TYPE_CHECKING:
    from ragdro.config import Config


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in `path` with `dotted.key=value` overrides (values are YAML).

    Raises `ConfigError`: no such file, not YAML, an unknown key (with the nearest one that exists), a
    value out of range.
    """
    from ragdro.config import Config

    values = _read_yaml(Path(path))
    for override in overrides:
        _apply(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, Config)}") from error


def dump_config(config: Config) -> str:
    """The config as YAML, every default resolved; `load_config` reads it back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path) -> dict[Any, Any]:
    if path.is_dir():
        look = f"name a file in it: ls {shlex.quote(str(path))}"
        raise ConfigError(f"{path}: is a folder, neither a config file nor a run to resume; {look}")
    if not path.is_file():
        new = f"a new one: ragdro init {shlex.quote(str(path))}"
        raise ConfigError(f"{path}: {absent(path, 'config file')}; {new}")
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values")
    return values


def _apply(values: dict[Any, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"an override is written dotted.key=value, not {brief(override)}")
    *parents, last = key.split(".")
    place = values
    for parent in parents:
        below = place.get(parent)
        # A copy, because a YAML alias is the same object in several places.
        place[parent] = dict(below) if isinstance(below, dict) else {}
        place = place[parent]
    place[last] = parse_yaml(text, key)


_TAGS: dict[int | str, tuple[str, ...]] = {
    "retriever": ("bm25", "dense", "colbert", "hybrid", "external", "postgres", "qdrant", "given"),
    "e_step": ("transformers", "vllm", "vllm-server", "openai-compatible"),
}
"""Kinds that pydantic puts into an error's location, by section: no part of a dotted key."""


_RENAMED = {
    "questions_per_step": "batch_size",
    "tokens_per_batch": "max_tokens_per_micro_batch",
    "degrade": "corrupt_candidates",
}
"""Keys of versions before 0.2; CHANGELOG.md lists them too."""


def describe(error: ValidationError, root: type[BaseModel]) -> str:
    """The first complaint in one line: dotted key, what is wrong, the value."""
    first: dict[str, Any] = dict(error.errors(include_url=False)[0])
    where = [str(p) for p in first["loc"]]
    tags = _TAGS.get(where[0] if where else "", ())
    tag = next((place for place, part in enumerate(where) if part in tags), len(where))
    del where[tag : tag + 1]  # what names the kind; a key behind it may have the same name
    if "first_stage" in where:
        del where[(behind := where.index("first_stage") + 1) : behind + 1]
    if first["type"] == "nested":
        inner = first["ctx"]
        where += [str(p) for p in inner["place"]]
        first |= {"type": inner["type"], "msg": inner["message"], "input": inner["input"]}
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = sorted(_keys(root))
        renamed = [_RENAMED.get(part, part) for part in where]
        if renamed != where and ".".join(renamed) in known:
            return f"key '{key}' is called '{'.'.join(renamed)}' now"
        if key in known:  # of another kind: the retriever's keys depend on it
            return f"key '{key}' does not go with this {key.rpartition('.')[0]}'s kind"
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        near = near or [k for k in known if k.rpartition(".")[2] == where[-1]][:1]
        return f"unknown key '{key}'" + (f"; did you mean '{near[0]}'?" if near else "")
    key, message = in_words(first, key)
    shown = "" if isinstance(first["input"], Mapping) else f" (value: {brief(first['input'])})"
    return f"{key}: {message}{shown}" if key else message


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
        for part in get_args(annotation):
            yield from _models_in(part)
