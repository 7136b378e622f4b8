"""What connects a fit with the callbacks and the checkpointer of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch.optim import Optimizer

from ragdro.algorithms.examples import TrainingExample
from ragdro.errors import TrainingError
from ragdro.parallel.world import all_gather_object
from ragdro.parallel.zero import Zero
from ragdro.training.callbacks import BadBatch
from ragdro.training.loop import Training
from ragdro.training.m_step import FitObserver, Update, question_names
from ragdro.training.memory import limited_by
from ragdro.training.warm_up import ObserverOf
from ragdro.units import counted


def observers(training: Training, stage: str) -> ObserverOf:
    """From a role to what sees its fit in `stage`."""
    return lambda role: StageObserver(training, stage, role)


class StageObserver(FitObserver):
    """The fit of `role` in `stage` of `training`."""

    def __init__(self, training: Training, stage: str, role: str) -> None:
        self._training, self._stage, self._role = training, stage, role

    def begin(self, optimiser: Optimizer | Zero) -> int:
        """See `FitObserver`."""
        return self._training.checkpointer.resume_fit(self._stage, self._role, optimiser)

    def started(self, taken: int, steps: int) -> None:
        """See `FitObserver`."""
        self._training.emit("on_fit_begin", self._stage, self._role, taken, steps)

    def computing(self) -> AbstractContextManager[None]:
        """See `FitObserver`."""
        role = self._role.split("-")[0]  # of cross-fitting: the generator's
        section = "warm_up" if self._stage == "warm_up" else "m_step"
        settings = getattr(getattr(self._training.settings, section), role)
        return limited_by(
            f"{self._stage}: update of the {self._role}",
            f"{section}.{role}.max_tokens_per_micro_batch",
            settings.max_tokens_per_micro_batch,
            (f"{role}.gradient_checkpointing=true",),
        )

    def taken(self, update: Update, optimiser: Optimizer | Zero) -> None:
        """See `FitObserver`."""
        self._training.emit("on_update", self._stage, self._role, update)
        self._training.checkpointer.save_fit(self._stage, self._role, update, optimiser)

    def skipped(self, step: int, steps: int, problem: str, batch: Sequence[TrainingExample]) -> None:
        """Say so; raises `TrainingError` after more than `bad_batches` of them."""
        training = self._training
        sequences = [
            one for part in all_gather_object([_as_record(example) for example in batch]) for one in part
        ]
        training.emit("on_bad_batch", BadBatch(self._stage, self._role, step, steps, problem, sequences))
        training.state.bad_batches += 1
        count, most = training.state.bad_batches, training.settings.bad_batches
        if count > most:
            names = question_names([one["question"] for one in sequences])
            raise TrainingError(
                f"{self._stage}: {self._role}, update {step} of {steps}: {problem} at questions {names};"
                f" {counted(count, 'updates')} not finite, more than bad_batches = {most}. Try a lower"
                " learning_rate, or"
                " dtype=float32 or bfloat16 in place of float16"
            )


def _as_record(example: TrainingExample) -> Mapping[str, Any]:
    return {
        "question": example.question_id,
        "weights": example.weights,
        "tokens": example.group.tokens,
    }
