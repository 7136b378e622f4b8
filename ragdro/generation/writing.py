"""Greedy continuations of prompts: the likeliest token at each place, for many prompts at once.

In: prompts of a model, in one piece or in blocks. Out: the new tokens of each, up to and without an end
token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import numpy as np
import torch

from ragdro.generation.prompt import Prompt
from ragdro.lm.argmax import Argmax
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.block_cache import block_cache
from ragdro.lm.blocks import BlockText
from ragdro.lm.model import LanguageModel
from ragdro.profiling import active_profile


class GreedyWriter:
    """Writes at most `most` tokens behind each prompt of `model`."""

    def __init__(self, model: LanguageModel, most: int) -> None:
        self._model = model
        self._most = most
        self._decoding = Argmax(
            max_new_tokens=most,
            do_sample=False,
            eos_token_id=model.tokenizer.end_ids,
            pad_token_id=model.tokenizer.pad_id,
        )

    def write(self, prompts: Sequence[Prompt], max_tokens: int) -> list[list[int]]:
        """What is written behind each prompt; `max_tokens` bounds one pass."""
        written: list[list[int]] = [[] for _ in prompts]
        spans = [(len(p.tokens), len(p.tokens) + self._most) for p in prompts]
        classes = self._model.length_classes
        for alike in [list(range(len(prompts)))] if classes is None else classes.apart(spans):
            for batch in batches_by_tokens([spans[i][1] for i in alike], max_tokens):
                chosen = [alike[j] for j in batch]
                for i, ids in zip(chosen, self._batch([prompts[i] for i in chosen]), strict=True):
                    written[i] = ids
        return written

    def _batch(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Of one batch; prompts are padded in front."""
        model = self._model
        tokenizer, device = model.tokenizer, model.device
        width = max(len(p.tokens) for p in prompts)
        ids = np.full((len(prompts), width), tokenizer.pad_id, np.int64)
        mask = np.zeros((len(prompts), width), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt.tokens) :] = prompt.tokens
            mask[row, width - len(prompt.tokens) :] = 1
        model.hf.eval()
        texts = [BlockText(p.tokens, p.blocks, p.links) for p in prompts if p.blocks is not None]
        with torch.no_grad(), model.precision():
            output = model.hf.generate(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                past_key_values=block_cache(model, texts) if texts else None,
                generation_config=self._decoding,
            )
        if active_profile() is not None:
            positions = torch.arange(width - 1 if texts else 0, output.shape[1]).repeat(len(prompts), 1)
            model.note(positions.numel(), model.flops(positions))
        ends = set(tokenizer.end_ids)
        return [list(takewhile(lambda i: i not in ends, row)) for row in output[:, width:].tolist()]
