"""Thoughts: what a generator writes before an answer, and what the answer then stands behind.

In: a prompt that asks for a thought first, random numbers. Out: thoughts r ~ p(r|x,d_z) with exact
log-probabilities, and the text that an answer continues. A thought is what the model writes up to its end
token, or its first N tokens. The answer's text is then

    prompt, the thought without its end token, the template's `answer`

whose last part is always the same tokens, those that it has behind a word. They are ours: where a thought
ends and an answer begins is a matter of place, and nothing that a user or the model writes can pass for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ragdro.config.models import PassageAttention
from ragdro.errors import ConfigError
from ragdro.generation.prompt import Prompt
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.decoding import BranchDecoder
from ragdro.lm.model import LanguageModel
from ragdro.lm.sampling import Written, write_freely
from ragdro.lm.tree import Ints
from ragdro.prompts import PromptTemplate
from ragdro.types import Thought

_WORD = "x"
"""Stands for what is in front of the template's `answer`."""


class Thinking:
    """Thoughts of at most `most` tokens of `model` behind the prompts of `template`, the end token among
    them. Raises `ConfigError` for a template that does not say what stands before the answer."""

    def __init__(self, model: LanguageModel, template: PromptTemplate, most: int) -> None:
        if template.answer is None:
            raise ConfigError(
                f"generator.think: {most} tokens before the answer take a prompt that asks for a thought,"
                " with the key 'answer', which generator.prompt has not; take thinking or tiny-thinking, or"
                " set think: 0"
            )
        said = template.answer.rstrip()
        self.model = model
        self.most = most
        self.start = template.answer[len(said) :]
        self.border = _WORD + said
        self._between = np.array(model.tokenizer.behind(_WORD, said), np.int64)

    @property
    def longest(self) -> int:
        """Tokens that stand between a prompt and an answer at most."""
        return self.most + len(self._between)

    def before_answer(self, prompt: Prompt, thought: Sequence[int]) -> Prompt:
        """What an answer stands behind. `thought`: its tokens; none: an empty one."""
        ended = len(thought) > 0 and thought[-1] in self.model.tokenizer.end_ids
        written = np.array(thought[:-1] if ended else thought, np.int64)
        return Prompt(np.concatenate([prompt.tokens, written, self._between]), None)

    def sample(
        self, prompts: Sequence[Ints], uniforms: Sequence[NDArray[np.float64]], max_tokens: int
    ) -> list[list[Thought]]:
        """Thoughts drawn at temperature 1 behind each prompt, one for each row of its `uniforms` [thoughts,
        most]; `max_tokens` bounds one pass."""
        return self._written(prompts, uniforms, max_tokens)

    def greedy(self, prompts: Sequence[Ints], max_tokens: int) -> list[Thought]:
        """The thought that takes the likeliest token at each place. It was not drawn: its log q is 0."""
        return [one for (one,) in self._written(prompts, None, max_tokens)]

    def rehearse(self, prompt: Ints, rows: int) -> Iterator[int | None]:
        """What reading `rows` such prompts takes, and writing the last token of thoughts of the greatest
        length behind them, one each: the bytes of the cache then (for a plan). In between, None: what was
        written before is put there at once, which no run does."""
        decoder = BranchDecoder(self.model, [prompt] * rows, 1)
        yield decoder.cache_bytes
        decoder.feed([[[0] * (self.most - 1)]] * rows)
        yield None
        size = int(self.model.hf.get_input_embeddings().weight.shape[0])
        vocabulary, places = torch.arange(size, device=self.model.device), [(row, 0) for row in range(rows)]
        allowed = torch.ones(rows, size, dtype=torch.bool, device=self.model.device)
        decoder.feed([[[0]]] * rows)
        decoder.choice_logits(places, vocabulary, allowed).cpu().double().log_softmax(-1)
        yield decoder.cache_bytes

    def batches(self, lengths: Sequence[int], counts: Sequence[int], max_tokens: int) -> list[list[int]]:
        """Which prompts are read together, so many thoughts being drawn behind each."""
        rows = [length + self.most * count for length, count in zip(lengths, counts, strict=True)]
        return batches_by_tokens(rows, max_tokens)

    def _written(
        self, prompts: Sequence[Ints], uniforms: Sequence[NDArray[np.float64]] | None, max_tokens: int
    ) -> list[list[Thought]]:
        counts = [1] * len(prompts) if uniforms is None else [len(rows) for rows in uniforms]
        thoughts: list[list[Thought]] = [[] for _ in prompts]
        for batch in self.batches([len(p) for p in prompts], counts, max_tokens):
            numbers = None if uniforms is None else [uniforms[i] for i in batch]
            own = [prompts[i] for i in batch]
            texts = write_freely(self.model, own, numbers, self.most, temperature=1.0, max_tokens=sys.maxsize)
            for i, row in zip(batch, texts, strict=True):
                thoughts[i] = [self._thought(one) for one in row]
        return thoughts

    def _thought(self, written: Written) -> Thought:
        text = self.model.tokenizer.decode(list(written.tokens))
        return Thought(text, written.tokens, written.log_proposal, written.log_prior)


def thinking_of(
    model: LanguageModel, template: PromptTemplate, most: int, passage_attention: PassageAttention
) -> Thinking | None:
    """The thoughts of a generator whose longest one takes `most` tokens (0: none).

    Raises `ConfigError` for settings that go against one another.
    """
    if most and passage_attention != "full":
        raise ConfigError(
            f"generator.think: thoughts are drawn with passage_attention: full, not {passage_attention};"
            " set one or the other"
        )
    if template.answer is not None and not most:
        raise ConfigError(
            "generator.prompt: has the key 'answer', for what stands behind a thought, and"
            " generator.think is 0; set think to a number of tokens, or take another prompt"
        )
    return Thinking(model, template, most) if most else None
