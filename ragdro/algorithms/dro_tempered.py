"""The weights raised to a power that keeps the effective sample size above a floor
(docs/reference/objectives/dro-tempered.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from ragdro.algorithms.dro import Dro

if TYPE_CHECKING:
    from torch import Tensor


class DroTempered(Dro):
    """Both models follow weights proportional to ratio^tau, tau in [0, 1] as large as `floor` allows."""

    kind: str = "dro-tempered"
    floor: float = Field(2.0, ge=1, description="least effective sample size of a question's weights")

    def check(self, samples: int) -> None:
        """A floor of all samples makes all weights equal."""
        if self.floor >= samples:
            raise ValueError(
                f"objective.floor: {self.floor:g} must be less than e_step.samples (m = {samples}): with it"
                " all weights are equal, and nothing is learned"
            )

    def weights(self, log_ratios: Tensor) -> Tensor:
        """Tempered weights [questions, samples]."""
        from ragdro.algorithms.weights import tempered_weights

        return tempered_weights(log_ratios, self.floor)
