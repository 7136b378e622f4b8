"""What a run's E-steps drew and weighted, read back for a retriever to learn from.

In: a run folder, running, interrupted or finished. Out: for each training question that an E-step has seen,
its lists with their weights from the last one that has, of the candidates that it had then. Nothing is
written, no language model is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.errors import ConfigError, DataError
from ragdro.retrieval.hashing import hash_file
from ragdro.runs import shards
from ragdro.runs.checkpointer import E_STEP, SHARD
from ragdro.runs.file_index import DamagedError, Files, read_files
from ragdro.runs.fingerprint import began_on
from ragdro.runs.setup import load_splits, load_tasks
from ragdro.runs.status import STATE, last_state
from ragdro.runs.taught import searched_in, taught_after
from ragdro.types import Task, WeightedTask


def training_tasks(config: Config) -> list[Task]:
    """The run's training questions with their candidates."""
    return load_tasks(config, config.data.train)[: config.data.train_questions]


def weighted_lists(run: Path, config: Config) -> list[WeightedTask]:
    """The last weighted lists of each training question, in the order of the training questions.

    Raises `ConfigError` for a run that has kept no E-step or whose questions have changed since, `DataError`
    for a damaged file.
    """
    state = last_state(run)
    files = _files(run, state or {})
    keys = sorted((key for key in files if key.startswith((E_STEP, SHARD))), key=_order)
    if state is None or not keys:
        raise ConfigError(
            f"{run}: has kept no weighted lists (no E-step is done in {run / STATE}); train it for an"
            " iteration, or give the labels another source: --labels distant or --labels gold"
        )
    splits = load_splits(config)
    if not began_on(state["questions"], *splits):
        raise ConfigError(
            f"{run}: its questions or passages are others than when it was trained; train it anew,"
            " or give the labels another source: --labels distant or --labels gold"
        )
    under_way = int(state["finished"]) + 1
    tasks = {0: {task.question.id: task for task in splits[0]}}
    tasks_by_id: dict[str, WeightedTask] = {}
    for key in keys:
        iteration = under_way if key.startswith(SHARD) else _order(key)[1]
        after = taught_after(config, iteration)
        if after not in tasks:
            found_then = training_tasks(searched_in(config, run, iteration))
            tasks[after] = {task.question.id: task for task in found_then}
        for value in _read(run, *files[key]):
            (weighted,) = shards.decode([value], [tasks[after][value["id"]]])
            tasks_by_id[value["id"]] = weighted
    return [tasks_by_id[name] for name in tasks[0] if name in tasks_by_id]


def _files(run: Path, state: dict[str, Any]) -> Files:
    if "files_bytes" not in state:
        return {}
    try:
        return read_files(run / STATE, state["files_bytes"], state["files_sha256"])
    except DamagedError as error:
        raise DataError("its list of files is damaged: train the run anew", path=run / STATE) from error


def _order(key: str) -> tuple[int, ...]:
    """Iterations in turn, the one that is not done yet behind them."""
    if key.startswith(SHARD):
        return (1, int(key.removeprefix(SHARD)))
    return (0, *(int(number) for number in key.removeprefix(E_STEP).split("-")))


def _read(run: Path, name: str, digest: str) -> list[dict[str, Any]]:
    path = run / STATE / name
    if Path(name).name != name or not path.is_file() or hash_file(path) != digest:
        raise DataError("missing, or its checksum does not match: train the run anew", path=path)
    values: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return values
