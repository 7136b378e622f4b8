"""How many passages, and how long, fit the positions that a model has; and whether its attention can be seen.

In: what is wanted, and how many tokens the selector's prompt has of its own. Out: N and a limit that fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ragdro.errors import ModelError
from ragdro.hub import find_checkpoint
from ragdro.lm.attention import attend_in_blocks
from ragdro.lm.load import caps_attention
from ragdro.planning.stand_in import cut_config
from ragdro.prompts import load_template

_PART = 0.9
"""Of the positions; what the chat template and the stand-in of a plan add is not counted."""
_LIST_TOKENS = 40
"""What the list of identifiers may take."""
_FEW = 8
"""So many candidates are kept before passages are cut."""


@dataclass(frozen=True, slots=True)
class Room:
    """`positions` that the model has (None: without limit, or not known), and tokens of the prompt's own
    words, once and for each passage."""

    positions: int | None
    once: int
    each: int

    def fit(self, n: int, question: int, passage: int) -> tuple[int, int]:
        """N and the tokens of a passage, no more than wanted: fewer candidates first, then shorter ones."""
        if self.positions is None:
            return n, passage
        free = int(_PART * self.positions) - self.once - _LIST_TOKENS - 2 * question
        n = max(2, min(n, _FEW), min(n, free // (passage + self.each)))
        return n, max(4, min(passage, free // n - self.each))


def room_of(model: str, prompt: str, count: Callable[[str], int]) -> Room:
    """The room in front of `model` with the template `prompt`, in the tokens that `count` counts.

    Raises `ModelError` for a model without a config that can be read.
    """
    template = load_template(prompt)
    positions = getattr(_config_of(model).get_text_config(), "max_position_embeddings", None)
    return Room(positions, count(template.user), count(template.passage.replace("{identifier}", "20")))


def shows_attention(model: str) -> bool:
    """Whether a pointer can see what the heads of `model` attend to: where it runs sdpa without a cap.

    Raises `ModelError` for a model without a config that can be read.
    """
    config = cut_config(_config_of(model), 1)
    if caps_attention(config):
        return False
    try:
        with torch.device("meta"):
            hf = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except ValueError:  # of a model that has no sdpa
        return False
    return attend_in_blocks(hf)


def _config_of(model: str) -> PretrainedConfig:
    checkpoint = find_checkpoint(model)
    try:
        return AutoConfig.from_pretrained(checkpoint.path, local_files_only=checkpoint.local)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{model}: its config cannot be read: {' '.join(str(error).split())[:200]}"
        ) from error
