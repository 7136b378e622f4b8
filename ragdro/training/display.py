"""How far a training is, while it runs: bars for what runs now, a line for each stage that is done, lights.

In: the events of a training. Out: what a `Display` shows of them. Training in memory and a run folder's have
the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ragdro.progress import Display, duration
from ragdro.training.callbacks import BadBatch, Callback
from ragdro.training.lights import as_row, lights
from ragdro.training.loop import VANILLA, stage_name
from ragdro.training.m_step import Update
from ragdro.training.parts import TrainingParts
from ragdro.types import WeightedTask
from ragdro.units import number

_SHOWN = {"exact_match": "EM", "f1": "F1", "full_recall": "all gold", "bound": "bound"}
"""Metrics of a stage's line."""


class DisplayCallback(Callback):
    """How far the run is, on standard error: a bar for what runs now, a line for each stage that is done."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._done = 0
        self._metrics: Mapping[str, Any] = {}
        self._since = time.monotonic()

    def on_train_begin(self, training: TrainingParts) -> None:
        """See `Callback`."""
        self._since = time.monotonic()

    def on_e_step_begin(self, stage: str, total: int) -> None:
        """See `Callback`."""
        self._display.start(f"{stage}: E-step", total)
        self._done = 0

    def on_shard(self, stage: str, done: int, total: int, *, saved: bool) -> None:
        """See `Callback`."""
        self._display.advance(f"{stage}: E-step", done - self._done)
        self._done = done

    def on_fit_begin(self, stage: str, role: str, taken: int, steps: int) -> None:
        """See `Callback`."""
        if taken < steps:
            self._display.start(f"{stage}: {role}", steps, taken)

    def on_update(self, stage: str, role: str, update: Update) -> None:
        """See `Callback`."""
        self._display.advance(f"{stage}: {role}")

    def on_bad_batch(self, batch: BadBatch) -> None:
        """See `Callback`."""
        self._display.advance(f"{batch.stage}: {batch.role}")

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
        parts = [
            f"{name} {number(metrics[key])}" for key, name in _SHOWN.items() if metrics.get(key) is not None
        ]
        self._display.say(" · ".join([label, *parts, took, *remarks]))


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
