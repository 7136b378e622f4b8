"""YAML and dotted overrides in, a checked `Config` out; every complaint names the dotted key."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from ragdro.access import absent
from ragdro.config.words import describe
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
