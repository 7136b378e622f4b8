"""A selector p(z|x) that points: one pass reads the question, the passages and the question again.

In: questions with their candidates. Out: permutations with exact log-probabilities. A passage's score is the
scaled cosine of two projected hidden states, the one at the passage's end and the one at the prompt's end, or
what the model's attention heads say of it (`ragdro.lm.heads`);
lists are drawn by these scores without replacement (Plackett-Luce), so that log p(z|x) is a formula: nothing
is decoded, and any number of lists costs one pass. jina-reranker-v3 (Wang et al. 2025) scores passages in a
shared context in this way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor

from ragdro.errors import ConfigError
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import branch_decoder
from ragdro.lm.engines.base import DecoderOf
from ragdro.lm.groups import ScoredGroup
from ragdro.lm.heads import HeadWeights
from ragdro.lm.model import LanguageModel
from ragdro.lm.projections import Projections
from ragdro.lm.tree import Ints
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate
from ragdro.prompts.template import Budget, EncodedPrompt
from ragdro.selection.passage_scores import passage_scores
from ragdro.selection.plackett_luce import (
    Scores,
    draw_lists,
    first_log_probs,
    greedy_list,
    list_log_probs,
    place_probabilities,
)
from ragdro.selection.selector import Selector
from ragdro.types import Draw, Permutation, Selection, Task

_KEPT_PROMPTS = 2048
"""Of a model that never changes: its epochs read the same ones again."""


@dataclass(frozen=True, slots=True, eq=False)
class PointerGroup(ScoredGroup):
    """A question's prompt, where its passages end, and the lists to score; `most`: K, where a shorter list
    has stopped (None: lists do not stop)."""

    prompt: EncodedPrompt
    lists: tuple[Permutation, ...]
    most: int | None

    def __len__(self) -> int:
        return len(self.prompt.ids)

    @classmethod
    def log_probs(cls, model: LanguageModel, groups: Sequence[ScoredGroup]) -> list[Tensor]:
        """See `ScoredGroup`."""
        own = cast("Sequence[PointerGroup]", groups)
        scores = passage_scores(model, [group.prompt for group in own])
        return list_log_probs(scores, [g.lists for g in own], [g.most for g in own])

    @classmethod
    def batches(cls, lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Prompts of a batch are padded to the longest."""
        return batches_by_tokens(lengths, max_tokens)

    @classmethod
    def one_pass(cls, model: LanguageModel, group: ScoredGroup) -> bool:
        """Always: it is the model's own attention."""
        return True

    @property
    def scored(self) -> int:
        """See `ScoredGroup`."""
        return len(self.lists)

    @property
    def tokens(self) -> list[list[int]]:
        """See `ScoredGroup`."""
        return [self.prompt.ids]

    @property
    def positions(self) -> Ints:
        """See `ScoredGroup`."""
        return np.arange(len(self))

    def head_flops(self, model: LanguageModel) -> float:
        """Of the projections (what weighs heads costs nothing)."""
        if isinstance(model.projections, HeadWeights):
            return 0.0
        assert model.projections is not None
        return 2.0 * (len(self.prompt.ends) + 1) * model.projections.passage.numel()


class PointerSelector(Selector):
    """`model` with projections behind the prompt `template`; see `Selector`.

    A model that has no projections gets new ones. `template` needs the question in front of the passages, or
    they would be read without it, and something behind them. Raises `ConfigError` where it has not.
    """

    kind = "pointer"

    def __init__(
        self,
        model: LanguageModel,
        template: PromptTemplate,
        *,
        k: int,
        n: int,
        budget: Budget,
        independent: bool = False,
        stop: bool = False,
    ) -> None:
        super().__init__(model, template, k=k, n=n, budget=budget, independent=independent, stop=stop)
        if "{question}" not in template.user.split("{passages}")[0]:
            raise ConfigError(
                "selector.prompt: a pointer scores a passage as it was read, so the template's 'user' needs"
                " {question} in front of {passages}: take pointer or tiny-pointer, or write one like them"
            )
        if isinstance(model.projections, HeadWeights):
            if "{question}" not in template.user.split("{passages}")[-1]:
                raise ConfigError(
                    "selector.prompt: attention is that of a question behind the passages, so the template's"
                    " 'user' needs {question} behind {passages} too: take pointer or tiny-pointer"
                )
            if not model.shows_attention:
                raise ConfigError(
                    f"selector.pointer.score: the attention of {model.tokenizer.name} cannot be seen; take"
                    " score: states"
                )
        if model.projections is None:
            model.projections = Projections(model.width).to(model.device)
        self._kept_prompt = lru_cache(_KEPT_PROMPTS)(self._encode)

    def prompt(self, task: Task) -> Ints:
        """See `Selector`."""
        return np.array(self.encoded(task).ids)

    @phase("tokenise")
    def encoded(self, task: Task) -> EncodedPrompt:
        """The prompt and where its passages end; raises as `prompt` does."""
        self.check(task)
        weights = self.model.projections
        kept = isinstance(weights, HeadWeights) and weights.cache is not None
        return (self._kept_prompt if kept else self._encode)(task, self.list_length(task.candidates))

    def _encode(self, task: Task, k: int) -> EncodedPrompt:
        passages = task.candidates.passages
        by_heads = isinstance(self.model.projections, HeadWeights)
        encode = self.template.encode_with_spans if by_heads else self.template.encode_with_ends
        encoded = encode(self.model.tokenizer, task.question.question, passages, k, self.budget, task.read)
        if encoded.ends[-1] >= len(encoded.ids) - 1:
            raise ConfigError("selector.prompt: a pointer's template needs words behind {passages}")
        self._check_length(task, len(encoded.ids))
        return encoded

    def group(self, task: Task, permutations: Sequence[Permutation]) -> PointerGroup:
        """See `Selector`."""
        most = self.list_length(task.candidates) if self.stop else None
        return PointerGroup(self.encoded(task), tuple(permutations), most)

    def sample(
        self,
        tasks: Sequence[Task],
        uniforms: Sequence[np.ndarray],
        *,
        temperature: float,
        max_tokens: int,
        decoder: DecoderOf = branch_decoder,
    ) -> list[list[Draw]]:
        """See `Selector`. Raises `ConfigError` for another engine's decoder, for nothing is decoded."""
        _refuse_engine(decoder)
        return [
            self._draws(scores, numbers, task, temperature)
            for scores, numbers, task in zip(self._read(tasks, max_tokens), uniforms, tasks, strict=True)
        ]

    def survey(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[float], list[Draw]]]:
        """See `Selector`."""
        return [
            (self._selection(scores, task), first_log_probs(scores), self._draws(scores, numbers, task, 1.0))
            for scores, numbers, task in zip(self._read(tasks, max_tokens), uniforms, tasks, strict=True)
        ]

    def first_choices(self, tasks: Sequence[Task], max_tokens: int) -> list[list[float]]:
        """See `Selector`."""
        return [first_log_probs(scores) for scores in self._read(tasks, max_tokens)]

    def _greedy(self, tasks: Sequence[Task], max_tokens: int, decoder: DecoderOf) -> list[Selection]:
        _refuse_engine(decoder)
        scores_of_tasks = self._read(tasks, max_tokens)
        return [self._selection(scores, task) for scores, task in zip(scores_of_tasks, tasks, strict=True)]

    def place_probabilities(
        self, chosen: Sequence[tuple[Task, Permutation]], max_tokens: int
    ) -> list[tuple[float, ...]]:
        """See `Selector`."""
        scores_of_tasks = self._read([task for task, _ in chosen], max_tokens)
        return [
            place_probabilities(scores, z) for scores, (_, z) in zip(scores_of_tasks, chosen, strict=True)
        ]

    def steps(self, candidates: int) -> int:
        """A place is one choice."""
        return 1

    def rehearse(self, prompt: Ints, rows: int, samples: int, candidates: int) -> Iterator[int]:
        """See `Selector`; nothing is cached."""
        ids = prompt.tolist()
        ends = list(range(1, candidates + 1))
        passage_scores(self.model, [EncodedPrompt(ids, ends, 0, range(len(ids) - 1, len(ids)))] * rows)
        yield 0

    def _selection(self, scores: Scores, task: Task) -> Selection:
        return Selection(*greedy_list(scores, self.list_length(task.candidates)), self.k)

    def _draws(self, scores: Scores, uniforms: np.ndarray, task: Task, temperature: float) -> list[Draw]:
        drawn = draw_lists(scores, uniforms, self.list_length(task.candidates), temperature)
        return [Draw(z, float(log_q), float(log_p)) for z, log_q, log_p in zip(*drawn, strict=True)]

    @phase("select")
    def _read(self, tasks: Sequence[Task], max_tokens: int) -> list[Scores]:
        """The scores of every question, in batches of like length; minus infinity for "enough" where lists do
        not stop."""
        prompts, read = [self.encoded(task) for task in tasks], dict[int, Scores]()
        self.model.hf.eval()
        with torch.no_grad():
            for batch in batches_by_tokens([len(p.ids) for p in prompts], max_tokens):
                scored = passage_scores(self.model, [prompts[i] for i in batch])
                read.update((i, s.cpu().double().numpy()) for i, s in zip(batch, scored, strict=True))
        if not self.stop:
            for scores in read.values():
                scores[-1] = -np.inf
        return [read[i] for i in range(len(tasks))]


def _refuse_engine(decoder: DecoderOf) -> None:
    if decoder is not branch_decoder:
        raise ConfigError("e_step.engine: a pointer selector decodes nothing; take engine transformers")
