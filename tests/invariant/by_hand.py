"""log p(z|x) and log p(y|x,d_z) by hand in float64, and gradients along fixed directions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import permutations

import torch
from torch import Tensor

from ragdro.lm.model import LanguageModel
from ragdro.lm.snapshot import trained_parameters
from ragdro.lm.tree import ScoredSequence
from ragdro.prompts.template import EncodedPrompt
from ragdro.selection.list_selector import ListSelector
from ragdro.selection.pointer import PointerSelector
from ragdro.system import Rag
from ragdro.types import Task

LISTS = list(permutations(range(5), 2))
DIRECTIONS = 16
"""Gradients are compared along so many fixed random directions of each model's parameters."""


def textbook(model: torch.nn.Module, sequence: ScoredSequence) -> Tensor:
    """log p of the sequence's targets, each among those allowed, from one plain forward pass."""
    return textbook_all(model, [sequence])[0]


def textbook_all(model: torch.nn.Module, sequences: Sequence[ScoredSequence]) -> Tensor:
    """The same of several, those of one length in one pass."""
    by_length: dict[int, list[int]] = {}
    for i, sequence in enumerate(sequences):
        by_length.setdefault(len(sequence.tokens), []).append(i)
    values: list[Tensor] = [torch.zeros(())] * len(sequences)
    for places in by_length.values():
        ids = torch.stack([torch.from_numpy(sequences[i].tokens) for i in places])
        for i, logits in zip(places, model(input_ids=ids).logits, strict=True):
            values[i] = _log_prob(logits, sequences[i])
    return torch.stack(values)


def _log_prob(logits: Tensor, sequence: ScoredSequence) -> Tensor:
    value = torch.zeros((), dtype=logits.dtype)
    for i, place in enumerate(sequence.targets.tolist()):
        row = logits[place - 1]
        among = row if sequence.allowed is None else row[torch.from_numpy(sequence.allowed[i])]
        value = value + row[int(sequence.tokens[place])] - among.logsumexp(0)
    return value


class Enumerated:
    """All that can be decided about a question: `prior` is log p(h|x) of each, `likelihood` log p(y|x,h)."""

    prior: Tensor
    likelihood: Tensor

    @property
    def posterior(self) -> Tensor:
        return (self.prior + self.likelihood).softmax(0)

    @property
    def evidence(self) -> Tensor:
        return (self.prior + self.likelihood).logsumexp(0)


@cache
def directions(parameters: int) -> Tensor:
    made = torch.Generator().manual_seed(7)
    return torch.randn(DIRECTIONS, parameters, generator=made, dtype=torch.float64)


def pointed(model: LanguageModel, prompt: EncodedPrompt) -> list[Tensor]:
    """log p of every list from one plain forward pass, cosines and the product over places."""
    states = model.hf.model(input_ids=torch.tensor([prompt.ids])).last_hidden_state[0]
    made = model.projections
    assert made is not None
    query = made.query @ states[-1]
    scores = []
    for end in prompt.ends:
        passage = made.passage @ states[end]
        scores.append(made.log_scale.exp() * (passage @ query) / (passage.norm() * query.norm()))
    weights = torch.stack(scores).exp()
    return [(weights[a] / weights.sum() * weights[b] / (weights.sum() - weights[a])).log() for a, b in LISTS]


def lists_by_hand(rag: Rag, task: Task) -> list[Tensor]:
    """log p(z|x) of every list, in float64."""
    selector = rag.selector
    if isinstance(selector, PointerSelector):
        selector.model.hf.double()
        assert selector.model.projections is not None
        selector.model.projections.double()
        return pointed(selector.model, selector.encoded(task))
    assert isinstance(selector, ListSelector)
    model = selector.model.hf.double()
    return [textbook(model, selector.scored(task, z)) for z in LISTS]


def projected(model: LanguageModel, value: Tensor) -> Tensor:
    """The gradient of `value` along the fixed directions."""
    parameters = list(trained_parameters(model).values())
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    flat = torch.cat([gradient.double().flatten() for gradient in gradients])
    return directions(len(flat)) @ flat
