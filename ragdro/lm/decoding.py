"""Decoding many continuations of one prompt without copying the prompt.

In: the prompts of a batch of questions and, step by step, the next tokens of each question's m branches.
Out: the hidden state at the end of every branch. All branches of a question live in one row of the
key-value cache: a branch sees the prompt and its own tokens and nobody else's, so the prompt is
prefilled once and its cache is never repeated; branches that are alike are computed once while they are.
The first prompts of a model, and the first after each fit,
are also decoded without any of this; where the two differ, `branch_decoder` gives the plain way from then on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from inspect import signature
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ragdro.lm.model import LanguageModel
from ragdro.lm.parity import agree
from ragdro.lm.prefill import prefill
from ragdro.lm.rope import LengthClasses
from ragdro.lm.tree import Ints
from ragdro.profiling import phase

Place: TypeAlias = tuple[int, int]
"""(question, branch)."""
_WRITTEN = 8
"""More tokens than the comparison of the two ways of decoding writes."""


class Decoder(ABC):
    """Branches being written: `feed` appends tokens, then `choice_logits` says what may come next."""

    @abstractmethod
    def feed(self, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """Append `tokens[question][branch]` (possibly none)."""

    @abstractmethod
    def rewind(self, question: int, branch: int, tokens: int) -> None:
        """Take back the last so many tokens that a branch was fed; it has to be fed others before it is
        asked about again."""

    @abstractmethod
    def choice_logits(
        self,
        branches: Sequence[Place],
        choices: Int[Tensor, " choices"],
        allowed: Bool[Tensor, "scored choices"],
    ) -> Float[Tensor, "scored choices"]:
        """Logits behind `branches`, each of which was fed something last time."""


def branch_decoder(model: LanguageModel, prompts: Sequence[Ints], branches: int) -> Decoder:
    """A decoder of `branches` continuations of each prompt (no prompt is empty)."""
    if model.length_classes is not None:
        return ClassedDecoder(model, prompts, branches, model.length_classes)
    return _decoder(model, prompts, branches)


def _decoder(model: LanguageModel, prompts: Sequence[Ints], branches: int) -> Decoder:
    """The same where all that is written has the same frequencies."""
    if model.shares_cache is None:
        model.shares_cache = _agrees(model, max(prompts, key=len), min(prompts, key=len))
    if model.shares_cache:
        return BranchDecoder(model, prompts, branches)
    return SeparateDecoder(model, prompts, branches, is_fallback=True)


def _agrees(model: LanguageModel, prompt: Ints, other: Ints) -> bool:
    """Decode two unlike branches of a long and a short prompt both ways, in two steps."""
    if model.length_classes is not None:  # what is written must not change its class
        class_of, cut = model.length_classes.of, prompt[:-_WRITTEN]
        prompt = cut if len(cut) > 1 and class_of(len(cut) - 1) == class_of(len(prompt)) else prompt
        other = other if len(other) < len(prompt) else prompt
    elif len(other) == len(prompt):
        other = prompt[: len(prompt) // 2 + 1]

    def decoded(kind: type[BranchDecoder] | type[SeparateDecoder]) -> Tensor:
        decoder, words = kind(model, [prompt, other], 2), prompt[:3].tolist()
        vocabulary = torch.arange(model.hf.get_input_embeddings().weight.shape[0], device=model.device)
        branches = [(0, 1), (1, 0), (1, 1)]
        allowed = torch.ones(len(branches), len(vocabulary), dtype=torch.bool, device=model.device)
        decoder.feed([[words, words[:1]], [[], words]])
        decoder.feed([[words[-1:], words], [words, words[:1]]])
        # A step's mean over the vocabulary would hide a difference; the likeliest tokens show it.
        return decoder.choice_logits(branches, vocabulary, allowed).log_softmax(-1).topk(8).values

    return agree(
        model,
        lambda: decoded(BranchDecoder),
        lambda: decoded(SeparateDecoder),
        "every branch is decoded separately from here on",
    )


class SeparateDecoder(Decoder):
    """The textbook way: each branch is a sequence of its own, computed anew at every step."""

    def __init__(
        self, model: LanguageModel, prompts: Sequence[Ints], branches: int, *, is_fallback: bool = False
    ) -> None:
        """`is_fallback`: what is computed counts among the model's fallbacks."""
        self.model = model
        self._is_fallback = is_fallback
        self._sequences = [[prompt.tolist() for _ in range(branches)] for prompt in prompts]

    def feed(self, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """See `Decoder`."""
        for r, row in enumerate(tokens):
            for b, more in enumerate(row):
                self._sequences[r][b].extend(more)

    def rewind(self, question: int, branch: int, tokens: int) -> None:
        """See `Decoder`."""
        sequence = self._sequences[question][branch]
        del sequence[len(sequence) - tokens :]

    def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
        """See `Decoder`."""
        self.model.note_fallbacks(len(branches) * self._is_fallback)
        last = (
            {"logits_to_keep": 1} if "logits_to_keep" in signature(self.model.hf.forward).parameters else {}
        )
        rows = []
        for r, b in branches:
            ids = torch.tensor([self._sequences[r][b]], device=self.model.device)
            with self.model.precision():
                rows.append(self.model.hf(input_ids=ids, use_cache=False, **last).logits[0, -1].float())
        return torch.stack(rows)[:, choices].masked_fill(~allowed, -torch.inf)


class ClassedDecoder(Decoder):
    """For a model whose frequencies depend on a sequence's length (see `ragdro.lm.rope`).

    Prompts of one class of lengths are decoded together. A question of which a branch reaches another class
    is decoded separately from there on: what is in the cache was computed with other frequencies.
    """

    def __init__(
        self, model: LanguageModel, prompts: Sequence[Ints], branches: int, classes: LengthClasses
    ) -> None:
        self._classes = classes
        self._plain = SeparateDecoder(model, prompts, branches)
        self._lengths = np.tile(np.array([[len(p)] for p in prompts]), (1, branches))
        self._home: dict[int, int] = {}
        """Questions that are still decoded together → their class."""
        rows: dict[int, list[int]] = {}
        for r, prompt in enumerate(prompts):
            length_class = classes.of(len(prompt))
            if length_class == classes.of(len(prompt) - 1):  # the cache is of all but the last token
                self._home[r] = length_class
                rows.setdefault(length_class, []).append(r)
        self._rows = rows
        self._together = {
            length_class: _decoder(model, [prompts[r] for r in rows], branches)
            for length_class, rows in rows.items()
        }

    def feed(self, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """See `Decoder`."""
        self._plain.feed(tokens)
        self._lengths = self._lengths + np.array([[len(t) for t in row] for row in tokens])
        for r, length_class in list(self._home.items()):
            if any(self._classes.of(int(length)) != length_class for length in self._lengths[r]):
                del self._home[r]
        for length_class, rows in self._rows.items():
            self._together[length_class].feed(
                [tokens[r] if r in self._home else [()] * len(tokens[r]) for r in rows]
            )

    def rewind(self, question: int, branch: int, tokens: int) -> None:
        """See `Decoder`."""
        self._plain.rewind(question, branch, tokens)
        self._lengths[question, branch] -= tokens
        length_class = self._home.get(question)
        if length_class is not None:
            self._together[length_class].rewind(self._rows[length_class].index(question), branch, tokens)

    def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
        """See `Decoder`."""
        values = torch.empty(allowed.shape, device=allowed.device)
        homes = [self._home.get(r) for r, _ in branches]
        for length_class in set(homes):
            chosen = [i for i, home in enumerate(homes) if home == length_class]
            places = [branches[i] for i in chosen]
            if length_class is None:
                values[chosen] = self._plain.choice_logits(places, choices, allowed[chosen])
                continue
            local = [(self._rows[length_class].index(r), b) for r, b in places]
            values[chosen] = self._together[length_class].choice_logits(local, choices, allowed[chosen])
        return values


class BranchDecoder(Decoder):
    """Prefills `prompts` (each non-empty) once; `feed` then extends the branches.

    What branches of a question have in common is computed once, also where one comes later to what another
    has written, or comes back to it: each question's tokens are a tree. The prompts' last tokens are held
    back: they are the trees' roots, computed with the first `feed`.
    """

    @phase("prefill")
    def __init__(self, model: LanguageModel, prompts: Sequence[Ints], branches: int) -> None:
        self.model = model
        rows, width = len(prompts), max(1, max(len(p) for p in prompts) - 1)
        self._held = [int(p[-1]) for p in prompts]
        self._lengths = np.array([len(p) - 1 for p in prompts])
        self._nodes: list[dict[tuple[int, int], int]] = [{} for _ in prompts]
        """By question the place behind the prompt of each token; its key: the place of the one before it (-1:
        none) and the token."""
        self._ways: list[list[list[int]]] = [[[] for _ in range(branches)] for _ in prompts]
        """By question and branch the places of its tokens."""
        self._states = torch.empty(0)
        self._valid = np.arange(width) < self._lengths[:, None]
        self._positions = np.tile(np.arange(width), (rows, 1))
        self.cache = prefill(model, [prompt[:-1] for prompt in prompts])

    def choice_logits(self, branches: Sequence[Place], choices: Tensor, allowed: Tensor) -> Tensor:
        """See `Decoder`."""
        ends = [self._ways[r][b][-1] for r, b in branches]
        states = self._states[[r for r, _ in branches], ends]
        return self.model.choice_logits(states, choices, allowed)

    def feed(self, tokens: Sequence[Sequence[Sequence[int]]]) -> None:
        """See `Decoder`."""
        start = self._positions.shape[1] - self._valid.shape[1]  # places there are
        new: list[list[tuple[int, list[int]]]] = [[] for _ in tokens]
        """By question each token that is not computed yet, and the way to it."""
        for r, row in enumerate(tokens):
            for b, more in enumerate(row):
                way = self._ways[r][b]
                for token in more if way else [self._held[r], *more]:
                    node = (way[-1] if way else -1, token)
                    if node not in self._nodes[r]:
                        self._nodes[r][node] = start + len(new[r])
                        way.append(start + len(new[r]))
                        new[r].append((token, list(way)))
                    else:
                        way.append(self._nodes[r][node])
        if any(new):
            self._compute(new)

    @property
    def cache_bytes(self) -> int:
        """What keys and values take."""
        tensors = [t for layer in self.cache.layers for t in (layer.keys, layer.values)]
        return sum(t.numel() * t.element_size() for t in tensors)

    def rewind(self, question: int, branch: int, tokens: int) -> None:
        """See `Decoder`. What was taken back stays in the cache, for who comes back to it."""
        way = self._ways[question][branch]
        del way[len(way) - tokens :]

    def _compute(self, new: Sequence[Sequence[tuple[int, list[int]]]]) -> None:
        """Append the states of new tokens, each of which sees its prompt and the way to it; what pads a
        question's sees itself alone."""
        rows, prompt, keys = len(new), self._valid.shape[1], self._positions.shape[1]
        queries = max(map(len, new))
        ids = np.full((rows, queries), self.model.tokenizer.pad_id, np.int64)
        # What pads stays at its prompt's end: it must not pass for a longer sequence.
        positions = np.tile(self._lengths[:, None], (1, queries))
        visible = np.zeros((rows, queries, keys + queries), bool)
        real = np.arange(queries) < np.array([len(row) for row in new])[:, None]
        r, q = np.nonzero(real)  # each token, in the order in which they are in `new`
        ways = [way for row in new for _, way in row]
        lengths = np.array([len(way) for way in ways])
        ids[r, q] = [token for row in new for token, _ in row]
        positions[r, q] = self._lengths[r] + lengths - 1
        visible[r, q, :prompt] = self._valid[r]
        owners = np.arange(len(r)).repeat(lengths)
        visible[r[owners], q[owners], prompt + np.fromiter(chain.from_iterable(ways), np.int64)] = True
        padded, place = np.nonzero(~real)
        visible[padded, place, keys + place] = True
        self._positions = np.concatenate([self._positions, positions], axis=1)
        hidden = self.model.hidden(
            self._tensor(ids),
            self._tensor(positions),
            self._tensor(visible),
            self._tensor(self._positions),
            self.cache,
        )
        self._states = torch.cat([self._states, hidden], 1) if self._states.numel() else hidden

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.model.device)
