"""What a run folder says and writes of a training as it goes: its first lines, the log, the predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.evaluation.evaluate import by_hops
from ragdro.progress import Display
from ragdro.runs.fingerprint import fingerprint_of
from ragdro.runs.folder import RunFolder
from ragdro.runs.log import MetricsLog
from ragdro.runs.measured import REPORTED
from ragdro.runs.models import settings_of, trained_part
from ragdro.training.callbacks import BadBatch, Callback
from ragdro.training.limits import cut_fractions
from ragdro.training.loop import VANILLA, stage_name
from ragdro.training.m_step import Update, question_names
from ragdro.training.parts import TrainingParts
from ragdro.types import WeightedTask
from ragdro.units import counted


class LogCallback(Callback):
    """metrics.jsonl, and with it the trackers."""

    def __init__(self, log: MetricsLog) -> None:
        self._log = log

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        if not self._log.is_new:
            return
        splits = {"train": training.train, "validation": training.validation, "test": training.test or []}
        counts = {name: len(tasks) for name, tasks in splits.items()}
        cut = cut_fractions(training.system, training.reported) if training.reported else {}
        reported = {REPORTED: fingerprint_of(training.reported)}
        self._log.log({"event": "start", "stage": stage_name(0), **counts, **cut, **reported})

    def on_teacher(self, done: int, total: int) -> None:
        """See `Callback`."""
        self._log.log({"event": "teacher", "stage": "warm_up", "questions": done, "of": total})

    def on_shard(self, stage: str, done: int, total: int, *, saved: bool) -> None:
        """See `Callback`."""
        if not saved:
            self._log.log({"event": "shard", "stage": stage, "questions": done, "of": total})

    def on_e_step(self, stage: str, weighted: Sequence[WeightedTask], metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        impossible = sum(w.impossible for w in weighted)
        counts = {"questions": len(weighted), "impossible_questions": impossible}
        counts["samples"] = len(weighted[0].drawn)
        self._log.log({"event": "e_step", "stage": stage, **metrics, **counts})

    def on_warning(self, stage: str, metric: str, message: str) -> None:
        """See `Callback`."""
        self._log.log({"event": "warning", "stage": stage, "metric": metric, "message": message})

    def on_update(self, stage: str, role: str, update: Update) -> None:
        """See `Callback`."""
        fields = {name: getattr(update, name) for name in Update.__slots__}
        self._log.log({"event": "update", "stage": stage, "role": role, **fields})

    def on_bad_batch(self, batch: BadBatch) -> None:
        """See `Callback`."""
        questions = [one["question"] for one in batch.sequences]
        self._log.log({**bad_batch_record(batch), "questions": questions})

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Callback`."""
        hops = by_hops([dict(r) for r in records])
        self._log.log({"event": "breakdown", "stage": stage, "split": split, "by_hops": hops})
        if stage != VANILLA:
            self._log.log({"event": "evaluation", "stage": stage, "split": split, **metrics})


class FolderCallback(Callback):
    """The predictions and the batches that were left out."""

    def __init__(self, folder: RunFolder, display: Display) -> None:
        self._folder, self._display = folder, display

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Callback`."""
        if split == "reported":
            self._folder.write_predictions(stage, records)

    def on_bad_batch(self, batch: BadBatch) -> None:
        """See `Callback`."""
        path = self._folder.write_bad_batch(batch, bad_batch_record(batch))
        names = question_names([one["question"] for one in batch.sequences])
        self._display.say(
            f"{batch.stage}: {batch.role}, update {batch.step} of {batch.steps}: {batch.problem} at questions"
            f" {names}; skipped, written to {path}"
        )


class StartCallback(Callback):
    """What is trained, on what, into which folder: said when training begins, also when it resumes."""

    def __init__(self, config: Config, display: Display) -> None:
        self._config, self._display = config, display

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        for line in _start(self._config, training):
            self._display.say(line)


def _start(config: Config, training: TrainingParts) -> Iterator[str]:
    trained = " and ".join(
        f"the {role} ({settings_of(config, role).model or 'new'}, {trained_part(config, role)})"
        for role in config.roles
    )
    yield f"training {trained} by {config.objective.kind}, on {training.system.selector.model.device}"
    test = "none for a test" if training.test is None else f"{len(training.test):,} to test"
    selected = " + ".join(map(str, config.retrieval.selected(config.selector.k)))
    numbers = f"N = {config.top_n} candidates, K = {selected} selected"
    yield f"on {counted(len(training.train))}, {len(training.validation):,} to validate, {test}; {numbers}"
    yield f"into {Path(config.runs) / config.name}"
    if config.warm_up.start is not None:
        yield f"from the pair in {config.warm_up.start}, without a warm-up of its own"
    if training.measured:
        yield "vanilla RAG and the warm-up are as that run measured them: same questions, settings and code"


def bad_batch_record(batch: BadBatch) -> dict[str, Any]:
    """What is said of a batch that was left out, without its sequences."""
    return {
        "event": "bad_batch",
        "stage": batch.stage,
        "role": batch.role,
        "step": batch.step,
        "problem": batch.problem,
    }
