"""How often a question is asked, and how much of what is found is read. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ragdro.config.base import Settings


class Retrieval(Settings):
    """Rounds of asking and reading: the first asks the question, or what the rewriter makes of it, each other
    what the rewriter writes."""

    rounds: int = Field(1, ge=1, le=8, description="most searches for a question; docs/explanation/paths.md")
    k: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="passages selected in each round, such as [3, 2]; null: selector.k in each"
    )
    stop: bool = Field(
        False, description="the rewriter may write that what was read is enough, which ends the rounds"
    )

    rewrite_first: bool = Field(
        False, description="the rewriter writes the first query too, where it is else the question itself"
    )

    @model_validator(mode="after")
    def _one_k_a_round(self) -> Retrieval:
        if self.k is not None and len(self.k) != self.rounds:
            raise ValueError(f"k: {len(self.k)} numbers for {self.rounds} rounds; give one for each")
        if self.stop and not self.asks:
            raise ValueError("stop: there is nothing to end with rounds: 1; set rounds: 2 or more")
        return self

    @property
    def asks(self) -> bool:
        """Whether a rewriter writes any query."""
        return self.rounds > 1 or self.rewrite_first

    @property
    def queries(self) -> int:
        """How many queries the rewriter writes for a path at most."""
        return self.rounds - 1 + self.rewrite_first

    @property
    def because(self) -> str:
        """What asks for a rewriter, for messages, and how to leave it out."""
        if self.rounds > 1:
            return "retrieval.rounds of 2 or more; set rounds: 1"
        return "retrieval.rewrite_first; set it to false"

    def selected(self, k: int) -> tuple[int, ...]:
        """How many are selected in each round, where the selector's own K is `k`."""
        return self.k or (k,) * self.rounds
