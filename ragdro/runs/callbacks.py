"""What a run folder shows and writes of a training as it goes: the log, the display, the predictions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ragdro.evaluation.evaluate import by_hops
from ragdro.progress import Display, duration
from ragdro.runs.folder import RunFolder
from ragdro.runs.log import MetricsLog
from ragdro.training.callbacks import BadBatch, Callback
from ragdro.training.lights import as_row, lights
from ragdro.training.limits import cut_fractions
from ragdro.training.loop import VANILLA, stage_name
from ragdro.training.m_step import Update, question_names
from ragdro.training.parts import TrainingParts
from ragdro.types import WeightedTask

_SHOWN = {"exact_match": "EM", "f1": "F1", "full_recall": "full recall", "bound": "bound"}
"""Metrics of a stage's line."""


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
        self._log.log({"event": "start", "stage": stage_name(0), **counts, **cut})

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


class DisplayCallback(Callback):
    """How far the run is, on standard error: a bar for what runs now, a line for each stage that is done."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._shown: set[str] = set()
        self._done = 0
        self._metrics: Mapping[str, Any] = {}
        self._since = time.monotonic()

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        self._since = time.monotonic()

    def on_shard(self, stage: str, done: int, total: int, *, saved: bool) -> None:
        """See `Callback`."""
        name = f"{stage}: E-step"
        if name not in self._shown:
            self._display.start(name, total)
            self._shown.add(name)
            self._done = 0
        self._display.advance(name, done - self._done)
        self._done = done

    def on_update(self, stage: str, role: str, update: Update) -> None:
        """See `Callback`."""
        name = f"{stage}: {role}"
        if name not in self._shown:
            self._display.start(name, update.steps, update.step - 1)
            self._shown.add(name)
        self._display.advance(name)

    def on_measuring(self, stage: str) -> None:
        """See `Callback`."""
        self._display.start(f"{stage}: measuring", None)

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Callback`."""
        self._metrics = metrics
        if stage == VANILLA:
            self._display.end(f"{stage}: measuring")
            self._say_stage("vanilla RAG")

    def on_iteration_end(self, training: TrainingParts, iteration: int) -> None:
        """See `Callback`."""
        state, stage = training.state, stage_name(iteration)
        if state.scores and state.scores[-1][0] == iteration:
            self._display.end(f"{stage}: measuring")
        label = f"iteration {iteration}" if iteration else "warm-up"
        label += ", validation" if iteration and training.tests_the_best_alone else ""
        self._say_stage(label, *(["best"] if state.is_best and iteration else []))

    def on_train_end(self, training: TrainingParts) -> None:
        """See `Callback`."""
        if self._metrics and training.tests_the_best_alone:
            best = training.state.results["best"]["iteration"]
            self._display.end(f"{stage_name(best)}: measuring")
            self._say_stage(f"iteration {best}, test questions")

    def on_warning(self, stage: str, metric: str, message: str) -> None:
        """See `Callback`."""
        self._display.say(f"{stage}: {message}")

    def _say_stage(self, label: str, *remarks: str) -> None:
        """One line: what was measured since the last one, and how long it took."""
        metrics, self._metrics = self._metrics, {}
        now = time.monotonic()
        took, self._since = duration(now - self._since), now
        found = [
            f"{name} {metrics[key]:.2f}".replace("-", "−")
            for key, name in _SHOWN.items()
            if metrics.get(key) is not None
        ]
        self._display.say(" · ".join([label, *found, took, *remarks]))


class LightsCallback(Callback):
    """A row of lights after each E-step, on standard error."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._held_out: dict[str, Mapping[str, Any]] = {}
        """What was measured last, by its stage."""
        self._held_out_samples: int | None = None

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`; a resumed run knows what was measured from its results."""
        results, settings = training.state.results, training.settings
        if training.algorithm.draws_lists:
            self._held_out_samples = settings.evaluation.samples
        if results["warm_up"] is not None:
            last = [results["warm_up"], *results["iterations"]][-1]
            self._held_out = {stage_name(last.get("iteration", 0)): last}

    def on_evaluation(
        self, stage: str, split: str, metrics: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `Callback`."""
        if stage != VANILLA:
            self._held_out = {stage: metrics}

    def on_e_step(self, stage: str, weighted: Sequence[WeightedTask], metrics: Mapping[str, float]) -> None:
        """See `Callback`."""
        before = stage_name(int(stage.removeprefix("iteration-")) - 1)
        samples = len(weighted[0].drawn)
        row = lights(samples, metrics, self._held_out.get(before), self._held_out_samples)
        if row:
            self._display.say(f"{stage}: {as_row(row)}")


def bad_batch_record(batch: BadBatch) -> dict[str, Any]:
    """What is said of a batch that was left out, without its sequences."""
    return {
        "event": "bad_batch",
        "stage": batch.stage,
        "role": batch.role,
        "step": batch.step,
        "problem": batch.problem,
    }
