"""What does not go together with thoughts before the answer. Imports no torch."""

from __future__ import annotations

from ragdro.config.objective import ObjectiveSettings
from ragdro.config.training import TrainingSettings


def check_thinking(objective: ObjectiveSettings, settings: TrainingSettings) -> None:
    """Raises `ValueError` naming the key of what a generator that thinks cannot be trained with."""
    for there, key in (
        (not objective.learns_thoughts, f"objective: {objective.kind}"),
        (settings.warm_up.loss == "all_tokens", "warm_up.loss: all_tokens"),
        (settings.parallel.strategy != "ddp", f"parallel.strategy: {settings.parallel.strategy}"),
    ):
        if there:
            raise ValueError(f"{key}: does not go with generator.think; set generator.think: 0")
