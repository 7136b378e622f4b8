"""Data that a config names."""

from __future__ import annotations

from pathlib import Path

from ragdro.access import absent
from ragdro.data.hub import is_hub_name
from ragdro.errors import DataError
from ragdro.sources import resolve


def named_source(source: str, key: str) -> str:
    """The path, or the dataset's name, behind what a config has as `key`. Raises `DataError` that begins with
    the key where no file or folder is there."""
    path = resolve(source)
    if not is_hub_name(path) and not Path(path).exists():
        raise DataError(f"{key}: {path}: {absent(path)}")
    return path
