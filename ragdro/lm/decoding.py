"""Decoding many continuations of one prompt without copying the prompt.

In: the prompts of a batch of questions and, step by step, the next tokens of each question's m branches.
Out: the hidden state at the end of every branch. All branches of a question live in one row of the
key-value cache: a branch sees the prompt and its own tokens and nobody else's, so the prompt is
prefilled once and its cache is never repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from ragdro.lm.model import LanguageModel
from ragdro.lm.tree import Ints


class BranchDecoder:
    """Prefills `prompts` (each non-empty) once; `feed` then extends the branches.

    The prompts' last tokens are held back and ride along with the first `feed`.
    """

    def __init__(self, model: LanguageModel, prompts: Sequence[Ints], branches: int) -> None:
        self.model = model
        self.branches = branches
        self._held = [int(p[-1]) for p in prompts]
        self._lengths = np.tile(np.array([[len(p) - 1] for p in prompts]), (1, branches))
        rows, width = len(prompts), max(1, max(len(p) for p in prompts) - 1)
        tokens = np.full((rows, width), model.tokenizer.pad_id, np.int64)
        self._valid = np.zeros((rows, width), bool)
        for r, prompt in enumerate(prompts):
            tokens[r, : len(prompt) - 1] = prompt[:-1]
            self._valid[r, : len(prompt) - 1] = True
        self._positions = np.tile(np.arange(width), (rows, 1))
        self._branch = np.full((rows, width), -1)
        # A cache built without a config keeps every position, also under a sliding window: the window
        # is in our masks, counted in positions, where the library counts places in the cache.
        self._cache = DynamicCache()
        model.hidden(self._tensor(tokens), self._tensor(self._positions), cache=self._cache)

    def feed(self, tokens: Sequence[Sequence[Sequence[int]]]) -> Float[Tensor, "questions branches width"]:
        """Append `tokens[question][branch]` (possibly none) and return each branch's last hidden state.

        The state of a branch that was fed nothing is meaningless.
        """
        held = self._held
        self._held = []
        new = [[([held[r]] if held else []) + list(t) for t in row] for r, row in enumerate(tokens)]
        step = max(1, max(len(t) for row in new for t in row))
        rows = len(new)
        ids = np.full((rows, self.branches, step), self.model.tokenizer.pad_id, np.int64)
        counts = np.array([[len(t) for t in row] for row in new])
        for r, row in enumerate(new):
            for b, branch in enumerate(row):
                ids[r, b, : len(branch)] = branch
        positions = self._lengths[:, :, None] + np.arange(step)
        valid = np.arange(step) < counts[:, :, None]
        self._lengths = self._lengths + counts
        state = self._forward(ids, positions, valid)
        last = torch.from_numpy(np.maximum(counts - 1, 0)).to(state.device)
        return state.gather(2, last[:, :, None, None].expand(-1, -1, 1, state.shape[-1]))[:, :, 0]

    def _forward(self, ids: Ints, positions: Ints, valid: np.ndarray) -> Tensor:
        """[questions branches step width]; the bookkeeping of the cache grows with it."""
        rows, branches, step = ids.shape
        queries = branches * step
        owner = np.tile(np.repeat(np.arange(branches), step), (rows, 1))
        flat_positions = positions.reshape(rows, queries)
        self._valid = np.concatenate([self._valid, valid.reshape(rows, queries)], axis=1)
        self._positions = np.concatenate([self._positions, flat_positions], axis=1)
        self._branch = np.concatenate([self._branch, owner], axis=1)
        own = (self._branch[:, None, :] == -1) | (self._branch[:, None, :] == owner[:, :, None])
        past = self._positions[:, None, :] <= flat_positions[:, :, None]
        visible = self._valid[:, None, :] & own & past
        itself = np.arange(queries)
        visible[:, itself, self._valid.shape[1] - queries + itself] = True  # pads must see something
        hidden = self.model.hidden(
            self._tensor(ids.reshape(rows, queries)),
            self._tensor(flat_positions),
            self._tensor(visible),
            self._tensor(self._positions),
            self._cache,
        )
        return hidden.reshape(rows, branches, step, -1)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)
