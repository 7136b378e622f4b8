"""Passages read each by itself: what settings ask of a generator's model, and what it gets for that."""

from __future__ import annotations

from ragdro.config.models import PassageAttention
from ragdro.errors import ConfigError
from ragdro.lm.block_cache import require_blocks
from ragdro.lm.last_layers import LastLayers
from ragdro.lm.model import LanguageModel
from ragdro.lm.passage_states import PassageStates
from ragdro.prompts import PromptTemplate


def read_in_blocks(
    model: LanguageModel,
    template: PromptTemplate,
    passage_attention: PassageAttention,
    *,
    passage_memory: float,
    full_layers: int,
    link_tokens: int,
) -> None:
    """Make `model` read the passages of `template` as `passage_attention` says; the rest as in `Generator`.

    Raises `ConfigError` for a model or a template that cannot do that, and for settings that have no effect.
    """
    all_layers = passage_attention != "full" and not full_layers
    if passage_memory < 0 or (passage_memory and not all_layers):
        raise ConfigError(
            f"passage_memory: {passage_memory} with passage_attention: {passage_attention} and"
            f" full_layers: {full_layers}; it is GiB for passages that all layers read in blocks"
        )
    if link_tokens < 0 or (link_tokens and not all_layers):
        raise ConfigError(
            f"link_tokens: {link_tokens} with passage_attention: {passage_attention} and full_layers:"
            f" {full_layers}; they are of passages that all layers read in blocks"
        )
    if passage_attention == "full":
        return
    require_blocks(model)
    template.require_blocks()
    model.last_layers = LastLayers(model.hf, full_layers, model.tokenizer.name) if full_layers else None
    model.passage_states = PassageStates(int(passage_memory * 2**30)) if passage_memory else None
