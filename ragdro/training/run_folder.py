"""A run on disk: `runs/<name>/`, written as the run goes, every file whole or absent.

config.yaml         the resolved config          environment.json   versions, commit, seed, machine
metrics.jsonl       one object a step or figure  predictions-<stage>.jsonl
checkpoints/iteration-N/{selector,generator}/    (0 is the warm-up), Hugging Face format
best                link to the best of them     results.json       written last: its presence means done
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ragdro.config import Config, dump_config
from ragdro.environment import environment
from ragdro.errors import ConfigError
from ragdro.files import write_atomically
from ragdro.lm.load import save_language_model
from ragdro.profiling import phase
from ragdro.rag import Rag
from ragdro.training.e_step import WeightedTask
from ragdro.training.m_step import Update

CHECKPOINTS = "checkpoints"


class RunFolder:
    """An open run. Use as a context: leaving it closes the log and the progress display."""

    def __init__(self, folder: Path, metrics: IO[str], progress: Progress) -> None:
        self.folder = folder
        self._metrics = metrics
        self._progress = progress
        self._bars: dict[str, TaskID] = {}
        self._results: dict[str, Any] = {"vanilla_rag": None, "warm_up": None, "iterations": [], "best": None}
        self._scores: list[float] = []

    @classmethod
    def create(cls, config: Config, *, overwrite: bool) -> RunFolder:
        """Make the folder and what is known from the start. Raises `ConfigError` if the name is taken."""
        folder = Path(config.runs) / config.name
        if folder.exists():
            if not overwrite:
                raise ConfigError(
                    f"name: the run folder {folder} exists; choose another name or pass --overwrite"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write_atomically(folder / "config.yaml", dump_config(config))
        write_atomically(folder / "environment.json", _json(environment(config.seed)))
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=Console(stderr=True))
        return cls(folder, (folder / "metrics.jsonl").open("w", encoding="utf-8"), progress)

    def __enter__(self) -> RunFolder:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._metrics.close()

    def log(self, record: dict[str, Any]) -> None:
        """Append one object to metrics.jsonl."""
        self._metrics.write(json.dumps(record) + "\n")
        self._metrics.flush()

    def bar(self, description: str, total: int) -> Callable[[int], None]:
        """A new progress bar; the function that is returned moves it on."""
        return partial(self._progress.advance, self._progress.add_task(description, total=total))

    def update(self, stage: str, role: str, update: Update) -> None:
        """One optimiser step, to the log and to its progress bar."""
        name = f"{stage}: {role}"
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=update.steps)
        self._progress.advance(self._bars[name])
        fields = {name: getattr(update, name) for name in Update.__slots__}
        self.log({"event": "update", "stage": stage, "role": role, **fields})

    def log_e_step(self, iteration: int, weighted: Sequence[WeightedTask]) -> None:
        """The means of what the training samples say about the fit."""
        count = len(weighted)
        self.log(
            {
                "event": "e_step",
                "stage": f"iteration-{iteration}",
                "questions": count,
                "bound": sum(w.bound for w in weighted) / count,
                "effective_sample_size": sum(w.effective_sample_size for w in weighted) / count,
                "distinct": sum(len(w.samples) for w in weighted) / count,
                "impossible_questions": sum(w.impossible for w in weighted),
            }
        )

    def write_predictions(self, stage: str, records: Sequence[dict[str, Any]]) -> None:
        """`predictions-<stage>.jsonl`, one record a question."""
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
        write_atomically(self.folder / f"predictions-{stage}.jsonl", lines)

    def record(self, figures: dict[str, Any]) -> None:
        """The figures of vanilla RAG."""
        self._results["vanilla_rag"] = figures

    @phase("save")
    def keep(self, iteration: int, rag: Rag, figures: dict[str, Any], score: float) -> None:
        """Save the pair after `iteration` (0: the warm-up) and point `best` at the best so far."""
        folder = self.folder / CHECKPOINTS / f"iteration-{iteration}"
        for role, model in (("selector", rag.selector.model), ("generator", rag.generator.model)):
            save_language_model(model, folder / role)
        if iteration:
            self._results["iterations"].append(figures)
        else:
            self._results["warm_up"] = figures
        self._scores.append(score)
        if score > max(self._scores[:-1], default=float("-inf")):
            self._results["best"] = {"iteration": iteration, **figures}
            _point(self.folder / "best", Path(CHECKPOINTS) / folder.name)

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` iterations have passed since the best one."""
        return (
            patience is not None and len(self._scores) - 1 - self._scores.index(max(self._scores)) >= patience
        )

    def finish(self) -> dict[str, Any]:
        """Write and return the results."""
        write_atomically(self.folder / "results.json", _json(self._results))
        return self._results


def _point(link: Path, target: Path) -> None:
    """Make `link` a relative symbolic link to `target`, replacing the old one in one step."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
