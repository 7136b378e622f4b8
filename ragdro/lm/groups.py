"""What is scored together: one question's sequences or lists, whichever way a model gives them probabilities.

In: a model and groups of one kind. Out: for each group a tensor of log-probabilities, with gradients where
they are on. A fit, the E-step and a plan know nothing else of what they compute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ragdro.lm.batching import packs_by_tokens
from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints


class ScoredGroup(ABC):
    """What one question has to be scored; its length is how many tokens a forward pass takes for it."""

    @abstractmethod
    def __len__(self) -> int: ...

    @classmethod
    @abstractmethod
    def log_probs(cls, model: LanguageModel, groups: Sequence[ScoredGroup]) -> list[Tensor]:
        """Of groups that are all of this class, in one batch: a log-probability (nats) for each of a group's
        sequences or lists, float32, on the device."""

    @classmethod
    @abstractmethod
    def batches(cls, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Which of the groups of these lengths are computed together, so that a pass takes `max_tokens`."""

    @classmethod
    @abstractmethod
    def one_pass(cls, model: LanguageModel, group: ScoredGroup) -> bool:
        """Whether a batch is one forward pass, whatever is in it."""

    @property
    @abstractmethod
    def scored(self) -> int:
        """How many log-probabilities it has."""

    @property
    @abstractmethod
    def tokens(self) -> list[list[int]]:
        """The token ids of each sequence that is read."""

    @property
    @abstractmethod
    def positions(self) -> Ints:
        """The position of each token that a forward pass takes."""

    @abstractmethod
    def head_flops(self, model: LanguageModel) -> float:
        """What is computed from the hidden states, forward (see `ragdro.profiling`)."""


@dataclass(frozen=True, slots=True, eq=False)
class JoinedGroup(ScoredGroup):
    """Groups of one kind that belong to one question: its decisions, made from different prompts. A fit
    takes them apart where its loss allows that (`TrainingExample.parts`)."""

    parts: tuple[ScoredGroup, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @classmethod
    def log_probs(cls, model: LanguageModel, groups: Sequence[ScoredGroup]) -> list[Tensor]:
        """See `ScoredGroup`."""
        joined = cast("Sequence[JoinedGroup]", groups)
        values = iter(log_probs(model, [part for group in joined for part in group.parts]))
        return [torch.cat([next(values) for _ in group.parts]) for group in joined]

    @classmethod
    def batches(cls, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """The parts of a group stay together; of those that are padded it is a bit less than a row's."""
        return packs_by_tokens(lengths, max_tokens)

    @classmethod
    def one_pass(cls, model: LanguageModel, group: ScoredGroup) -> bool:
        """See `ScoredGroup`."""
        part = cast("JoinedGroup", group).parts[0]
        return part.one_pass(model, part)

    @property
    def scored(self) -> int:
        """See `ScoredGroup`."""
        return sum(part.scored for part in self.parts)

    @property
    def tokens(self) -> list[list[int]]:
        """See `ScoredGroup`."""
        return [sequence for part in self.parts for sequence in part.tokens]

    @property
    def positions(self) -> Ints:
        """See `ScoredGroup`."""
        return np.concatenate([part.positions for part in self.parts])

    def head_flops(self, model: LanguageModel) -> float:
        """See `ScoredGroup`."""
        return sum(part.head_flops(model) for part in self.parts)


def log_probs(model: LanguageModel, groups: Sequence[ScoredGroup]) -> list[Tensor]:
    """[sequences] of each group: log-probabilities in nats, of one batch, of groups of one kind."""
    return type(groups[0]).log_probs(model, groups)


def batches_of(groups: Sequence[ScoredGroup], max_tokens: int) -> list[list[int]]:
    """Which of the groups (of one kind, by their places) are computed together."""
    return type(groups[0]).batches([len(g) for g in groups], max_tokens) if groups else []
