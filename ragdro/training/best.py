"""The best pair, kept in memory: what `ragdro.train` leaves both models with."""

from __future__ import annotations

from ragdro.lm.snapshot import WeightSnapshot
from ragdro.training.callbacks import Callback
from ragdro.training.parts import TrainingParts


class KeepBest(Callback):
    """Captures the trained weights of each iteration that is the best so far, and loads them in the end."""

    def __init__(self) -> None:
        self._best: list[WeightSnapshot] = []

    def on_iteration_end(self, training: TrainingParts, iteration: int) -> None:
        """See `Callback`."""
        if training.state.is_best:
            self._best = [WeightSnapshot(role, model) for role, model in training.models.items()]

    def on_train_end(self, training: TrainingParts) -> None:
        """See `Callback`."""
        for snapshot in self._best:
            snapshot.load()
