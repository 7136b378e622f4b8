"""What does not go together with asking a question more than once. Imports no torch."""

from __future__ import annotations

from ragdro.config.objective import ObjectiveSettings
from ragdro.config.training import TrainingSettings


def check_paths(objective: ObjectiveSettings, settings: TrainingSettings) -> None:
    """Raises `ValueError` naming the key of what learns from, or draws, the lists of one retrieval alone."""
    if settings.retrieval.rounds == 1:
        return
    step, warm_up = settings.e_step, settings.warm_up
    for there, key in (
        (not objective.learns_paths, f"objective: {objective.kind}"),
        (objective.needs_reference, "objective.kl"),
        (step.replay > 0, "e_step.replay"),
        (step.engine.kind != "transformers", f"e_step.engine: {step.engine.kind}"),
        (step.mixture is not None and step.mixture.teacher > 0, "e_step.mixture.teacher"),
        (warm_up.asks_a_model and bool(warm_up.fits), f"warm_up.teacher: {warm_up.teacher}"),
        (settings.parallel.strategy != "ddp", f"parallel.strategy: {settings.parallel.strategy}"),
    ):
        if there:
            raise ValueError(f"{key}: does not go with retrieval.rounds of 2 or more; set rounds: 1")
