"""The rewriter p(q|x, what was read): a causal LM that asks again, or says that there is enough.

In: questions with the passages read so far, in reading order. Out: written queries, sampled or greedy, with
exact log-probabilities (the sum over the query's tokens and its end token), and the scored sequences that
training needs. `ENOUGH` is a query like any other, so that stopping has a probability of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragdro.errors import ConfigError
from ragdro.generation.reading import Reading
from ragdro.lm.model import LanguageModel
from ragdro.lm.pretrained import pretrained
from ragdro.lm.sampling import Written, write_freely
from ragdro.lm.scoring import SequenceGroup
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.types import ENOUGH
from ragdro.units import counted

QUERY_TOKENS = 32
"""Tokens of the longest query, where nothing else is said."""


@dataclass(frozen=True, slots=True)
class WrittenQuery:
    """A query's text and its tokens, with log q and log p (nats). Empty text: nothing to search for."""

    text: str
    tokens: tuple[int, ...]
    log_proposal: float
    log_prior: float

    @property
    def is_enough(self) -> bool:
        """Whether it asks for nothing more."""
        return self.text == ENOUGH


class Rewriter:
    """`model` behind the prompt `template`; a query has at most `query_tokens` tokens, its end token among
    them, and is cut there."""

    def __init__(
        self, model: LanguageModel, template: PromptTemplate, *, budget: Budget, query_tokens: int
    ) -> None:
        self.model = model
        self.template = template
        self.budget = budget
        self.query_tokens = query_tokens
        self._start = template.output_start(model.tokenizer)
        self._border = template.output_border(model.tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        *,
        query_tokens: int = QUERY_TOKENS,
        prompt: str = "rewriter",
        question_tokens: int = 256,
        passage_tokens: int = 256,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Rewriter:
        """A rewriter from a checkpoint folder, a hub name or a `tiny:` name; see `ragdro.lm.pretrained`.

        Raises `ModelError` for what cannot be loaded, `ConfigError` for a value out of range or an unknown
        template.
        """
        if query_tokens < 1:
            raise ConfigError(f"query_tokens: must be at least 1, is {query_tokens}")
        budget, template = Budget(question_tokens, passage_tokens), load_template(prompt)
        model = pretrained(
            path_or_name, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
        return cls(model, template, budget=budget, query_tokens=query_tokens)

    @phase("tokenise")
    def prompt(self, reading: Reading) -> Ints:
        """The prompt's token ids. Raises `ConfigError` for a prompt that the model has no positions for."""
        question, passages = reading.question, reading.passages
        ids = self.template.encode(
            self.model.tokenizer, question.question, passages, len(passages), self.budget
        )
        longest, limit = len(ids) + self.query_tokens, self.model.max_positions
        if limit is not None and longest > limit:
            raise ConfigError(
                f"rewriter.passage_tokens: question '{question.id}' with what was read and a query needs"
                f" {counted(longest, 'tokens')}, more than the model's {limit} positions; lower"
                " passage_tokens"
            )
        return np.array(ids, np.int64)

    def query_ids(self, query: str) -> tuple[int, ...]:
        """The tokens of a query and the end token, or its first `query_tokens` tokens."""
        tokenizer = self.model.tokenizer
        ids = tokenizer.continuation(self._border, self._start + query.strip())
        return (*ids, tokenizer.end_id)[: self.query_tokens]

    def scored(self, reading: Reading, tokens: Sequence[int]) -> ScoredSequence:
        """The sequence whose log-probability is log p(q|x, what was read) of a query's tokens."""
        return _behind(self.prompt(reading), tokens)

    def group(self, reading: Reading, queries: Sequence[Sequence[int]]) -> SequenceGroup:
        """Several queries' tokens behind one prompt."""
        prompt = self.prompt(reading)
        return SequenceGroup.of([_behind(prompt, tokens) for tokens in queries])

    def sample(
        self,
        readings: Sequence[Reading],
        uniforms: Sequence[NDArray[np.float64]],
        *,
        temperature: float,
        max_tokens: int,
    ) -> list[list[WrittenQuery]]:
        """Queries drawn behind each prompt, one for each row of its `uniforms` [queries, `query_tokens`]."""
        return self._written(readings, uniforms, temperature, max_tokens)

    def greedy(self, readings: Sequence[Reading], max_tokens: int) -> list[WrittenQuery]:
        """The query that takes the likeliest token at each place."""
        return [one for (one,) in self._written(readings, None, 1.0, max_tokens)]

    def _written(
        self,
        readings: Sequence[Reading],
        uniforms: Sequence[NDArray[np.float64]] | None,
        temperature: float,
        max_tokens: int,
    ) -> list[list[WrittenQuery]]:
        prompts = [self.prompt(reading) for reading in readings]
        texts = write_freely(
            self.model, prompts, uniforms, self.query_tokens, temperature=temperature, max_tokens=max_tokens
        )
        return [[self._query(one) for one in of_prompt] for of_prompt in texts]

    def _query(self, written: Written) -> WrittenQuery:
        text = self.model.tokenizer.decode(list(written.tokens))
        return WrittenQuery(text, written.tokens, written.log_proposal, written.log_prior)


def _behind(prompt: Ints, tokens: Sequence[int]) -> ScoredSequence:
    whole = np.concatenate([prompt, np.array(tokens, np.int64)])
    return ScoredSequence(whole, np.arange(len(prompt), len(whole)))
