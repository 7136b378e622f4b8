"""Names of what comes with the package: `tiny:base` and `tiny:train|validation|test|corpus`."""

from __future__ import annotations

from importlib.resources import files

from ragdro.errors import ConfigError

_TINY = {
    "base": "base",
    "train": "world/train.jsonl",
    "validation": "world/validation.jsonl",
    "test": "world/test.jsonl",
    "corpus": "world/corpus.jsonl",
}


def resolve(source: str) -> str:
    """The path behind a `tiny:` name; any other source as it is. Raises `ConfigError` for an unknown name."""
    scheme, sign, name = source.partition(":")
    if not sign or scheme != "tiny":
        return source
    if name not in _TINY:
        raise ConfigError(f"'{source}': the embedded default has {', '.join('tiny:' + n for n in _TINY)}")
    return str(files("ragdro.tiny").joinpath(*_TINY[name].split("/")))
