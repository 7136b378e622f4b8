"""Hugging Face datasets by name: `hf:org/name`, `hf:org/name:split`, `hf:org/name:config:split`.

Loaded through `datasets` (from its cache where there is no network); a folder of data files works as a
name too. Rows are read by whichever of our formats their columns match. Without a split, the dataset must
have only one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from ragdro.errors import DataError
from ragdro.hub import require_dataset

PREFIX = "hf:"


def is_hub_name(source: object) -> bool:
    """Whether `source` is a string that names a dataset."""
    return isinstance(source, str) and source.startswith(PREFIX)


def _load(source: str) -> Iterable[dict[str, object]]:
    try:
        from datasets import Dataset, load_dataset
        from datasets import config as datasets_config
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise DataError("needs the package `datasets`: pip install 'ragdro[hub]'", path=source) from error

    name, *rest = source.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2 or not all(rest):
        raise DataError("must read hf:org/name, hf:org/name:split or hf:org/name:config:split", path=source)
    config, split = (rest[0], rest[1]) if len(rest) == 2 else (None, rest[0] if rest else None)
    require_dataset(name, Path(datasets_config.HF_DATASETS_CACHE))
    try:
        loaded = load_dataset(name, config, split=split)
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"cannot be loaded: {reason[:300]}", path=source) from error
    if isinstance(loaded, Dataset):
        rows: Iterable[dict[str, object]] = loaded
        return rows
    splits = sorted(str(key) for key in loaded)
    if len(splits) != 1:
        named = f"{source}:{'train' if 'train' in splits else splits[0]}"
        look = f"name one, as in: ragdro data inspect {shlex.quote(named)}"
        raise DataError(f"has the splits {', '.join(splits)}: {look}", path=source)
    only: Iterable[dict[str, object]] = loaded[splits[0]]
    return only


def rows(source: str) -> Iterator[tuple[int, dict[str, object]]]:
    """The rows of a dataset, numbered from 1. Raises DataError where it cannot be loaded."""
    for number, row in enumerate(_load(source), start=1):
        yield number, dict(row)
