"""No latent variable: the generator learns from the retriever's order (docs/reference/objectives/sft.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ragdro.algorithms.dro import Dro
from ragdro.types import Draw, Task

if TYPE_CHECKING:
    from ragdro.selection.selector import Selector


class Sft(Dro):
    """Supervised fine-tuning of the generator alone; nothing is selected, in training or after it."""

    kind: str = "sft"

    draws_lists: ClassVar[bool] = False
    learns_thoughts: ClassVar[bool] = False
    selects: ClassVar[bool] = False

    def propose(self, selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[list[Draw]]:
        """The retriever's first K as the one draw, certain."""
        lengths = [selector.list_length(task.candidates) for task in tasks]
        return [[Draw(tuple(range(length)), 0.0, 0.0)] for length in lengths]

    def answers_scored(self, samples: int, candidates: int) -> int:
        """One."""
        return 1
