"""Names of what comes with the package: `tiny:base`, `tiny:train|validation|test|corpus` and the same of the
world that is asked twice, `tiny:far-train` and so on."""

from __future__ import annotations

from importlib.resources import files

from ragdro.errors import ConfigError

_FILES = ("train", "validation", "test", "corpus")
_TINY = {
    "base": "base",
    **{name: f"world/{name}.jsonl" for name in _FILES},
    **{f"far-{name}": f"far/{name}.jsonl" for name in _FILES},
}


def resolve(source: str) -> str:
    """The path behind a `tiny:` name; any other source as it is. Raises `ConfigError` for an unknown name."""
    scheme, sign, name = source.partition(":")
    if not sign or scheme != "tiny":
        return source
    if name not in _TINY:
        raise ConfigError(f"'{source}': the embedded default has {', '.join('tiny:' + n for n in _TINY)}")
    return str(files("ragdro.tiny").joinpath(*_TINY[name].split("/")))
