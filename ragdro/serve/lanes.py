"""How many batches a server works on at once, and with how many of the processor's threads each.

Two batches with a core each need nothing of one another; one batch on two cores waits for both after every
product. So on a CPU two batches are computed at once, each with half of torch's threads, and a request that
is alone has them all. The weights are there once. With one thread, or on a GPU, which one batch fills, it is
one batch at a time, and so it is with systems that change while they answer: roles that share a base and
switch its adapters, frequencies of positions that each pass sets by its longest text (`ragdro.lm.rope`), what
is kept from question to question, retrievers that are asked in between.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ragdro.lm.heads import HeadWeights
from ragdro.lm.model import LanguageModel
from ragdro.system import Rag

_AT_ONCE = 2


def lanes_of(rags: Iterable[Rag]) -> int:
    """How many batches of these systems are computed at once."""
    return min(_AT_ONCE, torch.get_num_threads()) if all(map(_never_changes, rags)) else 1


def _never_changes(rag: Rag) -> bool:
    return rag.asking is None and all(map(_is_constant, (rag.selector.model, rag.generator.model)))


def _is_constant(model: LanguageModel) -> bool:
    cached = isinstance(model.projections, HeadWeights) and model.projections.cache is not None
    kept = model.passage_states is not None or model.last_layers is not None
    return (
        model.adapter is None
        and model.length_classes is None
        and model.device.type == "cpu"
        and model.tokenizer.vocabulary.is_fast
        and not (cached or kept)
    )
