"""What an objective decides; one file each beside this one.

In: settings. Out: which permutations are proposed and how they are weighted, what each model is fitted to,
what that takes (samples of the selector itself, a reference, labels), and when its diagnostics mean trouble.
An objective is written by subclassing `Algorithm` (docs/reference/objectives.md) and named in a config by its
file, or by `package.module:ClassName`. The loop in `ragdro.training.em` knows nothing else of it.

Importing this imports no torch: methods import what they compute with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ragdro.config.objective import ObjectiveSettings
from ragdro.errors import ConfigError
from ragdro.types import Draw, Task, WeightedTask

if TYPE_CHECKING:
    from torch import Tensor

    from ragdro.algorithms.examples import TrainingExample
    from ragdro.config import Config
    from ragdro.generation.generator import Generator
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.selection.selector import Selector


@dataclass(frozen=True, slots=True)
class Labeller:
    """What `Algorithm.label` may compute with.

    `held_out(tasks, compute)` calls `compute` with places in `tasks` while the generator in place has not
    been fitted to those questions (where there is cross-fitting), and returns its results in order.
    `reference()`: the selector has the weights of the warm-up within. `max_tokens` bounds one forward pass.
    """

    selector: Selector
    generator: Generator
    max_tokens: int
    held_out: Callable[[Sequence[Task], Callable[[Sequence[int]], Sequence[Any]]], list[Any]]
    reference: Callable[[], AbstractContextManager[None]] | None = None


@dataclass(frozen=True, slots=True)
class LabelCost:
    """What `Algorithm.label` reads of a question at most: whether the reference scores its samples
    again, how many lists it writes, and how many answers are written or scored, each by itself."""

    rescored: bool = False
    lists: int = 0
    answers: int = 0


class Algorithm(ObjectiveSettings, ABC):
    """An objective: its settings, and what it makes of a question's samples."""

    independent: ClassVar[bool] = False
    """True: passages are chosen apart from one another, by the probability of being chosen first."""

    @property
    def needs_labels(self) -> bool:
        """Whether `label` does anything."""
        return False

    def propose(self, selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[list[Draw]] | None:
        """The permutations of each question, with log q and log p of each. None: lists are sampled from the
        selector, as the config says."""
        return None

    def answers_scored(self, samples: int, candidates: int) -> int:
        """How many answers an E-step scores for a question with so many samples and candidates."""
        return samples

    def weights(self, log_ratios: Tensor) -> Tensor:
        """Weights [questions, samples] of log p(z|x) p(y|x,d_z) / q(z), the same shape; rows sum to 1."""
        from ragdro.algorithms.weights import importance_weights

        return importance_weights(log_ratios)

    def label(self, weighted: Sequence[WeightedTask], labeller: Labeller) -> list[WeightedTask]:
        """The samples with what the objective wants to know of them besides (rewards, rejected answers)."""
        return list(weighted)

    def label_cost(self, samples: int) -> LabelCost:
        """What that takes for a question with so many samples."""
        return LabelCost()

    @abstractmethod
    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """What the selector learns from a question."""

    @abstractmethod
    def generator_example(self, generator: Generator, weighted: WeightedTask) -> TrainingExample:
        """What the generator learns from a question."""

    def rewriter_example(self, rewriter: Rewriter, weighted: WeightedTask) -> TrainingExample:
        """What the rewriter learns from a question that is asked more than once, where `learns_paths`."""
        raise ConfigError(f"objective: {self.kind} learns from lists alone; set retrieval.rounds: 1")

    def warnings(self, metrics: Mapping[str, float], samples: int) -> dict[str, str]:
        """For each metric of an E-step that says a fit is in trouble, what that is and what to try."""
        from ragdro.algorithms.warnings import warnings

        return warnings(metrics, samples)


def algorithm_of(config: Config) -> Algorithm:
    """The objective. Raises `ConfigError` for a class of somebody's that is no `Algorithm`."""
    if not isinstance(config.objective, Algorithm):
        raise ConfigError(
            f"objective.kind: {config.objective.kind} is no subclass of ragdro.algorithms.Algorithm"
        )
    return config.objective
