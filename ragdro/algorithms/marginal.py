"""Independent passages (RAG-Sequence), summed over, not sampled (docs/reference/objectives/marginal.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from ragdro.algorithms.dro import Dro
from ragdro.types import Draw, Task

if TYPE_CHECKING:
    from ragdro.selection.selector import Selector


class Marginal(Dro):
    """The selector's first choice is the latent variable; the generator reads one passage at a time while it
    is trained. The weights are the exact posterior p(d_k|x,y), the bound is the evidence itself."""

    kind: str = "marginal"
    passages: int | None = Field(
        None, ge=1, description="the likeliest first choices alone are summed over; null: all candidates"
    )

    draws_lists: ClassVar[bool] = False
    learns_thoughts: ClassVar[bool] = False
    independent: ClassVar[bool] = True

    def propose(self, selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[list[Draw]]:
        """Every candidate (or the `passages` likeliest) as a list of its own, once, so that the bound is the
        logarithm of the sum over them."""
        from ragdro.selection.inclusion import likeliest

        proposed = []
        for log_p in selector.first_choices(tasks, max_tokens):
            chosen = likeliest(log_p, self.passages)
            proposed.append([Draw((i,), -math.log(len(chosen)), log_p[i]) for i in chosen])
        return proposed

    def answers_scored(self, samples: int, candidates: int) -> int:
        """One a passage."""
        return self.passages or candidates

    def warnings(self, metrics: Mapping[str, float], samples: int) -> dict[str, str]:
        """None: a sharp posterior is no lack of samples where all are summed over."""
        return {}
