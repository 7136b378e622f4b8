"""A trained pair, back from its run folder: what `ragdro.load`, `evaluate` and `answer` use.

In: a run folder, or one that `ragdro export` wrote. Out: the same `Rag` that was measured during training,
with a retriever behind it that is opened by the first question which needs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragdro.config import Config, load_config
from ragdro.errors import ConfigError, ModelError
from ragdro.evaluation.evaluate import by_hops, evaluate, own_metrics, summarise
from ragdro.files import write_atomically
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.cache import cached_retriever
from ragdro.runs.exported import with_own_prompts
from ragdro.runs.folder import CHECKPOINTS
from ragdro.runs.setup import algorithm_of, build_rag, corruption, load_tasks
from ragdro.runs.status import CONFIG
from ragdro.sources import resolve
from ragdro.system import Rag, Retrieve, as_retrieve
from ragdro.training.evaluate import draw, sampled_metrics
from ragdro.types import Candidates, Question, Task

WARM_UP = "warm-up"


def load(
    folder: str | Path,
    *,
    stage: str = "best",
    corpus: str | None = None,
    retriever: Any = None,
    device: str | None = None,
) -> Rag:
    """The trained system of a run, or of a folder that `ragdro export` wrote.

    `stage` is 'best', 'warm-up' or 'iteration-N' (of a run). Questions are searched for in `corpus` (a file,
    a folder, a hub name), by `retriever` (one of ours that is open, an object with `search(queries, top_n)`
    as `ragdro.retrieval.custom` says, or a function from questions to candidates), or in what the run was
    trained on; none of it is opened before it is needed. `device`: None as in the config. Raises
    `ConfigError` for a folder that is neither, `ModelError` for a checkpoint that is not there.
    """
    path = Path(folder)
    config = config_of(path)
    if device is not None:
        config = config.model_copy(update={"device": device})
    retrieve = _lazy(config, corpus) if retriever is None else as_retrieve(retriever, config.top_n)
    return build_rag(config, checkpoint_of(path, stage), retrieve)


def _lazy(config: Config, corpus: str | None) -> Retrieve:
    """The run's own retriever over `corpus` (None: over its own), opened by the first question."""
    source = corpus or config.data.corpus
    opened: list[Retriever[Any]] = []
    cache = Path(config.cache)

    def retrieve(questions: Sequence[Question]) -> list[Candidates]:
        if not opened:
            path = None if source is None else resolve(source)
            opened.append(cached_retriever(path, config.retriever, cache, fields=config.data.names))
        worse = corruption(config)
        return [worse(candidates) for candidates in opened[0].search(questions, config.top_n)]

    return retrieve


def reported_tasks(run: Path) -> list[Task]:
    """The questions that the run reports on, with their candidates."""
    config = config_of(run)
    return _tasks(config, config.data.test or config.data.validation)


def _tasks(config: Config, source: str) -> list[Task]:
    return load_tasks(config, source)[: config.evaluation.questions]


def evaluate_run(run: Path, data: str | None, stage: str, out: Path | None) -> dict[str, Any]:
    """The metrics of a stage on `data` (None: as in the run, on the questions that it reports on, what
    samples say on the validation questions)."""
    config = config_of(run)
    checkpoint, algorithm, measuring = checkpoint_of(run, stage), algorithm_of(config), config.evaluation
    tasks = load_tasks(config, data) if data else reported_tasks(run)
    rag = build_rag(config, checkpoint)
    sampled = tasks if data else _tasks(config, config.data.validation)
    drawn = draw(rag, algorithm, measuring, config.seed, sampled)
    same = data or config.data.test is None
    predictions = rag.read(tasks, drawn.selections) if same else rag.predict(tasks)
    own = own_metrics(measuring.metrics)
    records = [evaluate(prediction, own) for prediction in predictions]
    if out is not None:
        write_atomically(out, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    metrics = {**summarise(records), **sampled_metrics(drawn.weighted, algorithm, measuring)}
    return {**metrics, "by_hops": by_hops(records)}


def config_of(folder: Path) -> Config:
    """The resolved config of a run or an exported folder. Raises `ConfigError` for a folder that is
    neither."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder}: neither a run folder nor an exported one (it has no {CONFIG})")
    return with_own_prompts(load_config(folder / CONFIG), folder)


def checkpoint_of(folder: Path, stage: str) -> Path:
    """The folder of a stage's pair ('best', 'warm-up', 'iteration-N'); an exported folder is its only one.

    Raises `ModelError` where there is none.
    """
    if not re.fullmatch(r"best|warm-up|iteration-[0-9]+", stage):
        raise ModelError(f"{stage}: no such stage; there are 'best', 'warm-up' and 'iteration-N'")
    if stage == "best":
        path = folder / "best"
        if not path.is_dir() and (folder / "selector").is_dir():
            return folder
    else:
        path = folder / CHECKPOINTS / ("iteration-0" if stage == WARM_UP else stage)
    if not path.is_dir():
        raise ModelError(f"{path}: no such checkpoint")
    return path
