"""The paper's objective: both models follow the posterior weights (docs/reference/objectives/dro.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ragdro.algorithms.base import Algorithm
from ragdro.types import WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
    from ragdro.generation.generator import Generator
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.selection.selector import Selector


class Dro(Algorithm):
    """L_s = -sum_i w_i log p(z_i|x), L_g = -sum_i w_i log p(y|x,d_zi)."""

    kind: str = "dro"

    learns_paths: ClassVar[bool] = True
    learns_thoughts: ClassVar[bool] = True

    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """Every permutation drawn, with its weight."""
        from ragdro.algorithms.examples import list_example

        return list_example(selector, weighted, [s.weight for s in weighted.samples])

    def rewriter_example(self, rewriter: Rewriter, weighted: WeightedTask) -> TrainingExample:
        """Every query written, with the weights of its paths."""
        from ragdro.algorithms.examples import query_example

        return query_example(rewriter, weighted, [s.weight for s in weighted.samples])

    def generator_example(self, generator: Generator, weighted: WeightedTask) -> TrainingExample:
        """The gold answer under every permutation drawn, with its weight."""
        from ragdro.algorithms.examples import answer_example

        return answer_example(generator, weighted, [s.weight for s in weighted.samples])
