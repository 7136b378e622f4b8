"""What is counted of one model in a plan: its weights, and what a question is for it.

In: a model of the right shapes without data, what it computes for a question. Out: the largest batch of such
questions within a number of tokens, and a `Phase` from the most bytes that were alive in it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

from ragdro.config import Config
from ragdro.lm.groups import JoinedGroup, ScoredGroup, batches_of
from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import trained_parameters
from ragdro.planning.phases import Phase
from ragdro.runs.models import settings_of
from ragdro.types import Role

_NF4 = 4.127 / 8
"""Bytes a weight in 4 bits takes with its scales, which are quantised too (QLoRA: 0.127 bits a weight)."""


class Side:
    """A role's model with what it computes for a question, all of it (`one`) and each prompt's part."""

    def __init__(self, config: Config, role: Role, model: LanguageModel, group: ScoredGroup) -> None:
        self.config, self.model, self.one = config, model, group
        self.parts = group.parts if isinstance(group, JoinedGroup) else (group,)
        hf = model.hf
        added = [] if model.projections is None else list(model.projections.parameters())
        self.held = [*hf.parameters(), *hf.buffers(), *added]
        self.dense = sum(map(size, self.held))
        self.trained = list(trained_parameters(model).values())
        self.weights = float(self.dense)
        self.passing = 0
        """Bytes that weights of 4 bits take while they are unpacked."""
        if settings_of(config, role).quantisation is not None:
            table = hf.get_input_embeddings().weight
            packed = [
                p
                for p in hf.get_decoder().parameters()
                if p.dim() == 2 and not p.requires_grad and p is not table
            ]
            self.weights -= sum(size(p) - _NF4 * p.numel() for p in packed)
            self.passing = max(map(size, packed))

    def largest(self, questions: int, max_tokens: int) -> tuple[list[ScoredGroup], bool]:
        """The largest batch of so many questions, and whether it is one of several."""
        groups = self.parts * questions
        packs = batches_of(groups, max_tokens)
        return [groups[i] for i in packs[0]], len(packs) > 1

    def phase(
        self, most: int, factor: float, *, kv_cache: int = 0, head: float = 0.0,
        gradients: int = 0, optimiser: float = 0.0,
    ) -> Phase:  # fmt: skip
        """What a question is, `most` bytes being the most that were alive; `factor` counts the passes."""
        with unset_fake_temporarily():  # these numbers are looked at
            flops = self.model.flops(torch.from_numpy(self.one.positions))
        return Phase(
            weights=float(self.weights),
            gradients=float(gradients),
            optimiser=optimiser,
            kv_cache=float(kv_cache),
            activations=float(max(0, most - self.dense - gradients - kv_cache) + self.passing),
            tokens=float(len(self.one)),
            flops=factor * (flops + head),
        )

    @property
    def head(self) -> float:
        """FLOPs of what a question's hidden states become, forward."""
        return self.one.head_flops(self.model)


def size(tensor: Tensor) -> int:
    """Its bytes."""
    return tensor.numel() * tensor.element_size()
