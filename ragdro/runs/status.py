"""What a run folder says about itself, read without loading a model: finished, running, interrupted.

In: a config or a run folder. Out: whether there is work to do, or one line that says why not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ragdro.config import Config, load_config
from ragdro.errors import ConfigError, DataError
from ragdro.runs.lock import LOCK, is_running

CONFIG = "config.yaml"
RESULTS = "results.json"
STATE = "state"
RunStatus: TypeAlias = Literal["running", "finished", "interrupted"]

_FREE = ("runs", "cache", "checkpoints", "bad_batches", "report_to", "parallel")
"""What may change when a run resumes: none of it changes a metric by more than rounding."""


def run_status(run: Path) -> RunStatus:
    """Whether the run in `run` is running, finished or interrupted."""
    if is_running(run):
        return "running"
    return "finished" if (run / RESULTS).is_file() else "interrupted"


def finished_results(config: Config, *, overwrite: bool, resume: bool) -> dict[str, Any] | None:
    """The results where `resume` finds that nothing is left to do, else None.

    Raises `ConfigError` where the folder cannot be used: another run's, another process's, no run's.
    """
    folder = Path(config.runs) / config.name
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume exclude each other")
    if not folder.exists():
        return None
    if is_running(folder):
        raise ConfigError(f"name: another process is running in {folder}")
    if resume and (folder / CONFIG).is_file():
        refuse_another_run(config)
        if not (folder / RESULTS).is_file():
            return None
        shutil.rmtree(folder / STATE, ignore_errors=True)  # there, if the run was killed after its results
        return read_results(folder)
    begun = (p for p in folder.iterdir() if p.name != LOCK and p.suffix != ".tmp")
    if resume and any(begun):
        raise ConfigError(f"name: {folder} is not a run folder (it has no {CONFIG}); choose another name")
    if not overwrite and not resume:
        raise ConfigError(
            f"name: the run folder {folder} exists; choose another name, pass --resume to resume it or"
            " --overwrite to replace it"
        )
    return None


def refuse_another_run(config: Config) -> None:
    """Raises `ConfigError` naming the first key in which the folder's config differs from `config`."""
    path = Path(config.runs) / config.name / CONFIG
    before, now = (dict(_leaves(c.model_dump(mode="json"))) for c in (load_config(path), config))
    for key in {**before, **now}:
        undated = key.endswith(".prompt_date") and now.get(key) is None  # the folder's own date is taken
        if before.get(key) != now.get(key) and key.split(".")[0] not in _FREE and not undated:
            raise ConfigError(
                f"{key}: the run began with {before.get(key)!r}, not {now.get(key)!r}; a run resumes as"
                " it was begun"
            )


def read_results(run: Path) -> dict[str, Any]:
    """The results of a finished run. Raises `DataError` where there are none, or none of a run."""
    path = run / RESULTS
    if not path.is_file():
        raise DataError("no results.json: not a run folder, or its run has not finished", path=run)
    results = read_json(path)
    if not isinstance(results, dict) or not {"vanilla_rag", "warm_up", "iterations", "best"} <= set(results):
        raise DataError("does not hold a run's results", path=path)
    return results


def read_json(path: Path) -> Any:
    """A JSON file of a run. Raises `DataError` where it is not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError("is not valid JSON", path=path) from error


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
