"""How often a question is asked, and how much of what is found is read. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ragdro.config.base import Settings


class Retrieval(Settings):
    """Rounds of asking and reading: the first asks the question, each other what the rewriter writes."""

    rounds: int = Field(1, ge=1, le=8, description="most searches for a question; docs/explanation/paths.md")
    k: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="passages selected in each round, such as [3, 2]; null: selector.k in each"
    )
    stop: bool = Field(
        False, description="the rewriter may write that what was read is enough, which ends the rounds"
    )

    @model_validator(mode="after")
    def _one_k_a_round(self) -> Retrieval:
        if self.k is not None and len(self.k) != self.rounds:
            raise ValueError(f"k: {len(self.k)} numbers for {self.rounds} rounds; give one for each")
        if self.stop and self.rounds == 1:
            raise ValueError("stop: there is nothing to end with rounds: 1; set rounds: 2 or more")
        return self

    def selected(self, k: int) -> tuple[int, ...]:
        """How many are selected in each round, where the selector's own K is `k`."""
        return self.k or (k,) * self.rounds
