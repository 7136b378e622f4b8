"""A trained pair, back from its run folder: what `ragdro.load`, `evaluate` and `answer` use.

In: a run folder. Out: the same `Rag` that was measured during training, with a retriever behind it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ragdro.config import Config, load_config
from ragdro.errors import ConfigError, ModelError
from ragdro.evaluation.evaluate import by_hops, evaluate, summarise
from ragdro.files import write_atomically
from ragdro.rag import Rag
from ragdro.retrieval.cache import cached_retriever
from ragdro.sources import resolve
from ragdro.training.assess import draw, sampled_figures
from ragdro.training.prepare import build_rag, degradation, load_tasks
from ragdro.training.run_folder import CHECKPOINTS
from ragdro.types import Candidates, Question, Task


def load(run: str | Path, *, stage: str = "best") -> Rag:
    """The trained system of a run; `stage` is 'best' or 'iteration-N' (0: the warm-up).

    Raises `ConfigError` for a folder that is no run, `ModelError` for a checkpoint that is not there.
    """
    folder, config = Path(run), config_of(Path(run))
    checkpoint = checkpoint_of(folder, stage)
    corpus = None if config.data.corpus is None else resolve(config.data.corpus)
    retriever = cached_retriever(corpus, config.retriever, Path(config.cache))
    worse = degradation(config)

    def retrieve(question: Question) -> Candidates:
        return worse(next(iter(retriever.search([question], config.top_n))))

    return build_rag(config, checkpoint, retrieve)


def reported_tasks(run: Path) -> list[Task]:
    """The questions that the run reports on, with their candidates."""
    config = config_of(run)
    return _tasks(config, config.data.test or config.data.validation)


def _tasks(config: Config, source: str) -> list[Task]:
    return load_tasks(config, source)[: config.evaluation.questions]


def evaluate_run(run: Path, data: str | None, stage: str, out: Path | None) -> dict[str, Any]:
    """The figures of a stage on `data` (None: as in the run, on the questions that it reports on, what
    samples say on the validation questions)."""
    config = config_of(run)
    checkpoint = checkpoint_of(run, stage)
    tasks = load_tasks(config, data) if data else reported_tasks(run)
    rag = build_rag(config, checkpoint)
    drawn = draw(rag, config, tasks if data else _tasks(config, config.data.validation))
    same = data or config.data.test is None
    predictions = rag.read(tasks, drawn.selections) if same else rag.predict(tasks)
    records = [evaluate(prediction) for prediction in predictions]
    if out is not None:
        write_atomically(out, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    figures = {**summarise(records), **sampled_figures(drawn.weighted, config)}
    return {**figures, "by_hops": by_hops(records)}


def config_of(run: Path) -> Config:
    """The run's resolved config. Raises `ConfigError` for a folder that is no run."""
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"{run}: not a run folder (it has no config.yaml)")
    return load_config(run / "config.yaml")


def checkpoint_of(run: Path, stage: str) -> Path:
    """The folder of a stage's pair ('best', 'iteration-N'). Raises `ModelError` where there is none."""
    if not re.fullmatch(r"best|iteration-[0-9]+", stage):
        raise ModelError(f"{stage}: no such stage; there are 'best' and 'iteration-N'")
    folder = run / "best" if stage == "best" else run / CHECKPOINTS / stage
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such checkpoint")
    return folder
