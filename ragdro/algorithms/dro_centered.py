"""The weights less their mean: equal weights move nothing (docs/reference/objectives/dro-centered.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ragdro.algorithms.dro import Dro
from ragdro.types import WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
    from ragdro.rewriting.rewriter import Rewriter
    from ragdro.selection.selector import Selector


class DroCentered(Dro):
    """The selector follows w_i - 1/m, clipped as PPO does; the generator follows the weights."""

    kind: str = "dro-centered"
    clip: float = Field(
        0.2, gt=0, lt=1, description="change of a list's probability at which it pulls no more"
    )

    on_policy: ClassVar[bool] = True

    def selector_example(self, selector: Selector, weighted: WeightedTask) -> TrainingExample:
        """Each distinct permutation with the sum of w_i - 1/m over its draws."""
        from ragdro.algorithms.examples import list_example

        return list_example(selector, weighted, _advantages(weighted), self.clip)

    def rewriter_example(self, rewriter: Rewriter, weighted: WeightedTask) -> TrainingExample:
        """Every query written, with the sum of w_i - 1/m over its paths."""
        from ragdro.algorithms.examples import query_example

        return query_example(rewriter, weighted, _advantages(weighted), self.clip)


def _advantages(weighted: WeightedTask) -> list[float]:
    """The sum of w_i - 1/m over the draws of each sample."""
    drawn = sum(s.count for s in weighted.samples)
    return [s.weight - s.count / drawn for s in weighted.samples]
