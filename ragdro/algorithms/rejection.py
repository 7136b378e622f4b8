"""Rejection sampling: maximum likelihood on the best sample (docs/reference/objectives/rejection.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from ragdro.algorithms.base import Algorithm, LabelCost, Labeller
from ragdro.algorithms.dpo import best_and_worst
from ragdro.algorithms.rewards import rewards_of
from ragdro.types import WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
    from ragdro.generation.generator import Generator
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.selection.selector import Selector


class Rejection(Algorithm):
    """All models are fitted to the one sample of a question under which the answer is likeliest, and to no
    other (Wang et al. 2025, CoRAG)."""

    kind: str = "rejection"
    keep: Literal["likely", "right"] = Field(
        "likely",
        description="'likely': the sample with the largest p(y|x,d_z); 'right': of those only from which the"
        " generator's greedy answer is right, and none where it never is",
    )

    learns_paths: ClassVar[bool] = True
    learns_thoughts: ClassVar[bool] = True

    @property
    def needs_labels(self) -> bool:
        """Where answers have to be right."""
        return self.keep == "right"

    def label(self, weighted: Sequence[WeightedTask], labeller: Labeller) -> list[WeightedTask]:
        """Whether the greedy answer from each sample is right (1 or 0), by a generator that has not been
        fitted to the question where there is cross-fitting."""
        right = rewards_of(weighted, "exact_match", labeller)
        return [
            replace(w, samples=tuple(replace(s, reward=r) for s, r in zip(w.samples, row, strict=True)))
            for w, row in zip(weighted, right, strict=True)
        ]

    def label_cost(self, samples: int) -> LabelCost:
        """A greedy answer from each sample."""
        return LabelCost(answers=samples if self.keep == "right" else 0)

    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """The list of the sample that is kept; where none is there is nothing to learn."""
        from ragdro.algorithms.examples import list_example

        return list_example(selector, *_kept(weighted))

    def rewriter_example(self, rewriter: Rewriter, weighted: WeightedTask) -> TrainingExample:
        """The queries of the path that is kept."""
        from ragdro.algorithms.examples import query_example

        return query_example(rewriter, *_kept(weighted))

    def generator_example(self, generator: Generator, weighted: WeightedTask) -> TrainingExample:
        """The gold answer from the sample that is kept."""
        from ragdro.algorithms.examples import answer_example

        return answer_example(generator, *_kept(weighted))


def _kept(weighted: WeightedTask) -> tuple[WeightedTask, tuple[float]]:
    """The question with the one sample that is kept, and its weight: 0 where all are rejected."""
    accepted = tuple(s for s in weighted.samples if s.reward != 0)
    best = best_and_worst(accepted or weighted.samples)[0]
    return replace(weighted, samples=(best,)), (1.0 if accepted else 0.0,)
