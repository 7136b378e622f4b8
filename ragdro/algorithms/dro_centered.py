"""The weights less their mean: equal weights move nothing (docs/reference/objectives/dro-centered.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ragdro.algorithms.dro import Dro
from ragdro.types import WeightedTask

if TYPE_CHECKING:
    from ragdro.algorithms.examples import TrainingExample
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
        from ragdro.algorithms.losses import clipped_to

        drawn = sum(s.count for s in weighted.samples)
        advantages = [s.weight - s.count / drawn for s in weighted.samples]
        return list_example(selector, weighted, advantages, clipped_to(weighted.samples, self.clip))
