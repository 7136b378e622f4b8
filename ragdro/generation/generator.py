"""The generator p(y|x,d_z): a causal LM that reads the selected passages in order and writes the answer.

In: questions with their selected passages. Out: greedy answers, and the scored sequences of the gold
answer: log p(y|x,d_z) is the *sum* over the answer's tokens and the end token (not a mean: a mean would
not be the likelihood of anything).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ragdro.config.models import PassageAttention
from ragdro.data.passages import PassageLike, as_passages
from ragdro.errors import ConfigError, DataError, brief
from ragdro.generation.prompt import Prompt
from ragdro.lm.argmax import Argmax
from ragdro.lm.batching import batches_by_tokens
from ragdro.lm.block_cache import block_cache, require_blocks
from ragdro.lm.blocks import BlockText
from ragdro.lm.last_layers import LastLayers
from ragdro.lm.model import LanguageModel
from ragdro.lm.passage_states import PassageStates
from ragdro.lm.pretrained import pretrained
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.lm.tree import Ints, ScoredSequence
from ragdro.profiling import active_profile, phase
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.types import Passage, Permutation, Question, Task


@dataclass(frozen=True, slots=True)
class Reading:
    """A question and the passages to answer it from, in reading order."""

    question: Question
    passages: tuple[Passage, ...]

    @classmethod
    def of(cls, task: Task, permutation: Permutation) -> Reading:
        """The question with the passages that a permutation selects, in its order."""
        return cls(task.question, tuple(task.candidates.passages[i] for i in permutation))


class Generator:
    """`model` behind the prompt `template`; answers take at most `answer_tokens` tokens.

    `order`: whether passages are read as they were selected or by the retriever's rank. `passage_attention`:
    whether a passage sees what stands before it or, one of the `blocks`, itself alone (`ragdro.lm.blocks`);
    'blocks-then-full' reads in blocks and is trained with both (`turns`). Raises `ConfigError` for a model or
    a template that cannot do that. `passage_memory`: GiB for what was read in blocks, kept for later
    questions. `full_layers`: how many of the last layers read blocks as ordinary text.
    """

    def __init__(
        self,
        model: LanguageModel,
        template: PromptTemplate,
        *,
        budget: Budget,
        answer_tokens: int,
        order: Literal["selected", "retriever"] = "selected",
        passage_attention: PassageAttention = "full",
        passage_memory: float = 0.0,
        full_layers: int = 0,
    ) -> None:
        self.model = model
        self.template = template
        self.budget = budget
        self.answer_tokens = answer_tokens
        self.order = order
        self.passage_attention = passage_attention
        if passage_memory < 0 or (passage_memory and (passage_attention == "full" or full_layers)):
            raise ConfigError(
                f"passage_memory: {passage_memory} with passage_attention: {passage_attention} and"
                f" full_layers: {full_layers}; it is GiB for passages that all layers read in blocks"
            )
        if passage_attention != "full":
            require_blocks(model)
            template.require_blocks()
            model.last_layers = (
                LastLayers(model.hf, full_layers, model.tokenizer.name) if full_layers else None
            )
            model.passage_states = PassageStates(int(passage_memory * 2**30)) if passage_memory else None
        self._start = template.output_start(model.tokenizer)
        self._border = template.output_border(model.tokenizer)
        self._decoding = Argmax(
            max_new_tokens=answer_tokens,
            do_sample=False,
            eos_token_id=model.tokenizer.end_ids,
            pad_token_id=model.tokenizer.pad_id,
        )

    @property
    def turns(self) -> tuple[Generator, ...]:
        """As whom it is fitted: update u of a fit (from 0) reads as number u modulo their count. Of
        'blocks-then-full' there are two, of the same model."""
        if self.passage_attention != "blocks-then-full":
            return (self,)
        other = copy.copy(self)
        other.passage_attention = "full"
        return self, other

    def ordered(self, permutation: Permutation) -> Permutation:
        """The selection as it is read: by the retriever's rank all orders of a set are one."""
        return tuple(sorted(permutation)) if self.order == "retriever" else permutation

    def prompt(self, reading: Reading) -> Ints:
        """The prompt's token ids. Raises `ConfigError` for a prompt that the model has no positions for."""
        return self._prompt(reading).tokens

    @phase("tokenise")
    def _prompt(self, reading: Reading) -> Prompt:
        """The same, and where its blocks end."""
        encode = self.template.encode if self.passage_attention == "full" else self.template.encode_blocks
        ids = encode(
            self.model.tokenizer,
            reading.question.question,
            reading.passages,
            len(reading.passages),
            self.budget,
        )
        prompt = Prompt.of(ids)
        longest, limit = len(prompt.tokens) + self.answer_tokens + 1, self.model.max_positions
        if limit is not None and longest > limit:
            raise ConfigError(
                f"generator.passage_tokens: question '{reading.question.id}' with its passages and answer "
                f"needs {longest} tokens, more than the model's {limit} positions; lower passage_tokens"
            )
        return prompt

    def scored(self, reading: Reading, answer: str | None = None) -> ScoredSequence:
        """The sequence whose log-probability is log p(y|x,d_z) of `answer` (None: the first gold one).

        An answer longer than `answer_tokens` is cut and has no end token then, since it does not end there:
        what is scored is that an answer begins like this. It is counted (`template.counts`); the first one
        warns (RuntimeWarning).
        """
        text = reading.question.answers[0] if answer is None else answer
        return self.sequences(reading, [self.answer_ids(reading.question, text)])[0]

    def sequences(self, reading: Reading, answers: Sequence[Sequence[int]]) -> list[ScoredSequence]:
        """The sequence of each of several answers' tokens behind one reading."""
        prompt = self._prompt(reading)
        return [prompt.then(answer) for answer in answers]

    def answer_ids(self, question: Question, answer: str) -> list[int]:
        """The answer's tokens and the end token, or its first `answer_tokens` tokens."""
        tokenizer, counts = self.model.tokenizer, self.template.counts
        ids = self._written(answer)
        counts.answers += 1
        if len(ids) <= self.answer_tokens:
            return [*ids, tokenizer.end_id]
        counts.answers_cut += 1
        if counts.answers_cut == 1:
            warnings.warn(
                f"{tokenizer.name}: an answer to question '{question.id}' takes {len(ids)} tokens and is cut:"
                f" generator.answer_tokens is {self.answer_tokens}",
                RuntimeWarning,
                stacklevel=3,
            )
        return ids[: self.answer_tokens]

    def is_cut(self, answer: str) -> bool:
        """Whether `answer_ids` cuts it."""
        return len(self._written(answer)) > self.answer_tokens

    def _written(self, answer: str) -> list[int]:
        return self.model.tokenizer.continuation(self._border, self._start + answer.strip())

    def group(self, readings: Sequence[Reading]) -> SequenceGroup:
        """All readings of one question; what their prompts share is computed once."""
        return SequenceGroup.of([self.scored(r) for r in readings])

    def answer_many(self, readings: Sequence[Reading], max_tokens: int) -> list[str]:
        """The greedy answer to each reading."""
        prompts = [self._prompt(r) for r in readings]
        answers = [""] * len(readings)
        spans = [(len(p.tokens), len(p.tokens) + self.answer_tokens) for p in prompts]
        classes = self.model.length_classes
        for alike in [list(range(len(prompts)))] if classes is None else classes.apart(spans):
            for batch in batches_by_tokens([spans[i][1] for i in alike], max_tokens):
                chosen = [alike[j] for j in batch]
                for i, ids in zip(chosen, self._greedy([prompts[i] for i in chosen]), strict=True):
                    answers[i] = self.model.tokenizer.decode(ids)
        return answers

    def _greedy(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The new tokens of a batch, up to and without an end token; prompts are padded in front."""
        tokenizer, device = self.model.tokenizer, self.model.device
        width = max(len(p.tokens) for p in prompts)
        ids = np.full((len(prompts), width), tokenizer.pad_id, np.int64)
        mask = np.zeros((len(prompts), width), np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt.tokens) :] = prompt.tokens
            mask[row, width - len(prompt.tokens) :] = 1
        self.model.hf.eval()
        texts = [BlockText(p.tokens, p.blocks) for p in prompts if p.blocks is not None]
        with torch.no_grad(), self.model.precision():
            output = self.model.hf.generate(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                past_key_values=block_cache(self.model, texts) if texts else None,
                generation_config=self._decoding,
            )
        if active_profile() is not None:
            positions = torch.arange(width - 1 if texts else 0, output.shape[1]).repeat(len(prompts), 1)
            self.model.note(positions.numel(), self.model.flops(positions))
        ends = set(tokenizer.end_ids)
        return [list(takewhile(lambda i: i not in ends, row)) for row in output[:, width:].tolist()]

    @classmethod
    def from_pretrained(
        cls,
        path_or_name: str | Path,
        *,
        answer_tokens: int = 32,
        prompt: str = "generator",
        question_tokens: int = 256,
        passage_tokens: int = 512,
        passage_attention: PassageAttention = "full",
        passage_memory: float = 0.0,
        full_layers: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Generator:
        """A generator ready to `answer`: a checkpoint folder, a hub name or a `tiny:` name.

        An answer has at most `answer_tokens` tokens. `prompt`: a template by name, or a YAML file's path.
        A question longer than `question_tokens` and a passage (title and text) longer than `passage_tokens`
        are cut; `passage_attention`: as it was trained (see `Generator`, as of `passage_memory` and
        `full_layers`). The rest is in `ragdro.lm.pretrained`. Raises `ModelError` for what cannot be loaded,
        `ConfigError` for a value out of range or an unknown template.
        """
        if answer_tokens < 1:
            raise ConfigError(f"answer_tokens: must be at least 1, is {answer_tokens}")
        budget = Budget(question_tokens, passage_tokens)
        template = load_template(prompt)
        model = pretrained(
            path_or_name, device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code
        )
        return cls(
            model,
            template,
            budget=budget,
            answer_tokens=answer_tokens,
            passage_attention=passage_attention,
            passage_memory=passage_memory,
            full_layers=full_layers,
        )

    def answer(self, question: str, passages: Sequence[PassageLike]) -> str:
        """The greedy answer to a question from passages, read in the order given (none: from the question).

        Raises `DataError` for what is no passage, `ConfigError` for a prompt that the model has no positions
        for.
        """
        return self.answer_many([_reading(question, passages)], _ONE_QUESTION)[0]

    def log_likelihood(self, question: str, passages: Sequence[PassageLike], answer: str) -> float:
        """log p(y|x,d_z) of `answer` in nats: the sum over its tokens and the end token (as in
        `scored`).

        Raises as `answer` does, and `DataError` for an answer of more than `answer_tokens` tokens.
        """
        length = len(self.model.tokenizer.continuation(self._border, self._start + answer.strip()))
        if length > self.answer_tokens:
            raise DataError(
                f"answer: has {length} tokens, more than answer_tokens = {self.answer_tokens}:"
                f" {brief(answer)}"
            )
        sequence = self.scored(_reading(question, passages), answer)
        return score_all(self.model, [SequenceGroup.of([sequence])], _ONE_QUESTION)[0][0]


_ONE_QUESTION = 1
"""A budget of tokens that puts each question into a batch of its own."""


def _reading(question: str, passages: Sequence[PassageLike]) -> Reading:
    if not question.strip():
        raise DataError("question: is empty")
    return Reading(Question(question, question, ()), as_passages(passages))
