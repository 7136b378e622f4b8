"""What a training is made of: the models, the questions, what is kept beside them, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ragdro.algorithms.base import Algorithm
from ragdro.config import TrainingSettings
from ragdro.evaluation.evaluate import own_metrics
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import WeightSnapshot
from ragdro.system import Rag
from ragdro.training.cross_fit import folds_of
from ragdro.training.known import Known, is_frozen
from ragdro.training.patience import best_iteration
from ragdro.training.replay import Lists, earlier_name
from ragdro.types import Task, WeightedTask

Records: TypeAlias = Sequence[dict[str, Any]]
"""What was measured of a stage: an object a question."""
REFERENCE = "selector-warm-up"
BEST = "best-"
"""The best pair so far, where it is needed in the end: before a role."""


@dataclass(slots=True)
class LoopState:
    """How far a training is.

    `finished`: the last iteration that is done (0: the warm-up, -1: none). `steps`: updates taken of each
    role's fit in the stage under way. `scores`: (iteration, validation score) of each that was measured.
    """

    finished: int = -1
    steps: dict[str, int] = field(default_factory=dict)
    results: dict[str, Any] = field(
        default_factory=lambda: {"vanilla_rag": None, "warm_up": None, "iterations": [], "best": None}
    )
    scores: list[tuple[int, float]] = field(default_factory=list)
    bad_batches: int = 0

    @property
    def is_best(self) -> bool:
        """Whether the last iteration was measured, none was better, and none as good before it."""
        return bool(self.scores) and best_iteration(self.scores) == self.finished


class TrainingParts:
    """What callbacks and checkpointers see. `reported`: the questions whose metrics are reported (the test
    questions where there are any); `snapshots`: other weights kept beside the pair; `history`: what earlier
    iterations drew; `previous_samples`: what the stage before drew for validation questions; `known`:
    what a selector that never changes said of them; `measured`: by stage what another run measured of the
    reported questions."""

    def __init__(
        self,
        system: Rag,
        algorithm: Algorithm,
        settings: TrainingSettings,
        train: Sequence[Task],
        validation: Sequence[Task],
        test: Sequence[Task] | None,
        state: LoopState,
    ) -> None:
        self.system = system
        self.algorithm = algorithm
        self.settings = settings
        self.train, self.validation, self.test = list(train), list(validation), test
        self.state = state
        self.models = {"selector": system.selector.model, "generator": system.generator.model}
        if system.asking is not None:
            self.models["rewriter"] = system.asking.rewriter.model
        self.folds = folds_of(system.generator.model, self.train) if settings.cross_fitted else []
        self.own_metrics = own_metrics(settings.evaluation.metrics)
        self.snapshots = self._snapshots()
        self.history: dict[str, Lists] = {}
        self.previous_samples: list[WeightedTask] | None = None
        self.measured: Mapping[str, Records] = {}
        self.known = Known(used=is_frozen(system, algorithm, settings))

    @property
    def reported(self) -> Sequence[Task]:
        """The questions whose metrics are reported."""
        return self.validation if self.test is None else self.test

    @property
    def tests_the_best_alone(self) -> bool:
        """Whether of the iterations the test questions measure only the best, when all are done."""
        return self.test is not None and self.settings.evaluation.test == "best"

    @property
    def fallbacks(self) -> int:
        """Sequences and branches that both models computed separately, because the shared way was found
        unequal to the model's own."""
        return sum(model.fallbacks for model in {id(m): m for m in self.models.values()}.values())

    def model(self, role: str) -> LanguageModel:
        """The model that a fit of `role` moves: one of the pair, or a snapshot's."""
        return self.models[role] if role in self.models else self.snapshots[role].model

    def _snapshots(self) -> dict[str, WeightSnapshot]:
        """What is kept beside the pair, all as the pair is now."""
        selector = self.system.selector.model
        kept: list[WeightSnapshot] = list(self.folds)
        if self.algorithm.needs_reference:
            kept.append(WeightSnapshot(REFERENCE, selector))
        if self.tests_the_best_alone:
            kept += [WeightSnapshot(f"{BEST}{role}", model) for role, model in self.models.items()]
        kept += [
            WeightSnapshot(earlier_name(number), selector) for number in range(self.settings.e_step.replay)
        ]
        return {snapshot.name: snapshot for snapshot in kept}
