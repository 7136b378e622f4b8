"""The generator p(y|x,d_z): a causal LM that reads the selected passages in order and writes the answer.

In: questions with their selected passages. Out: greedy answers, and the scored sequences of the gold
answer: log p(y|x,d_z) is the *sum* over the answer's tokens and the end token (not a mean: a mean would
not be the likelihood of anything).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ragdro.config.models import LinkedTokens, PassageAttention
from ragdro.data.passages import PassageLike
from ragdro.errors import ConfigError, DataError, brief, warn
from ragdro.generation.block_reading import read_in_blocks
from ragdro.generation.prompt import Prompt
from ragdro.generation.reading import Reading, reading_of
from ragdro.generation.thoughts import thinking_of
from ragdro.generation.writing import GreedyWriter
from ragdro.lm.model import LanguageModel
from ragdro.lm.pretrained import pretrained
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.lm.tree import Ints, Links, ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate, load_template
from ragdro.prompts.template import Budget
from ragdro.types import Permutation, Question, QuestionPath, Thought


class Generator:
    """`model` behind the prompt `template`; answers take at most `answer_tokens` tokens.

    `order`: whether passages are read as they were selected or by the retriever's rank. `passage_attention`:
    whether a passage sees what stands before it or, one of the `blocks`, itself alone (`ragdro.lm.blocks`);
    'blocks-then-full' reads in blocks and is trained with both (`turns`). Raises `ConfigError` for a model or
    a template that cannot do that. `passage_memory`: GiB for what was read in blocks, kept for later
    questions. `full_layers`: how many of the last layers read blocks as ordinary text. `link_tokens`: how
    many of each passage see all before them, its `linked` ones. `think`: tokens of the longest thought before
    an answer (`ragdro.generation.thoughts`); 0: there is none.
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
        link_tokens: int = 0,
        linked: LinkedTokens = "last",
        think: int = 0,
    ) -> None:
        self.model = model
        self.template = template
        self.budget = budget
        self.answer_tokens = answer_tokens
        self.order = order
        self.passage_attention = passage_attention
        self.links = Links(link_tokens, linked == "first")
        read_in_blocks(
            model,
            template,
            passage_attention,
            passage_memory=passage_memory,
            full_layers=full_layers,
            link_tokens=link_tokens,
        )
        self.thinking = thinking_of(model, template, think, passage_attention)
        self._start = template.output_start(model.tokenizer) if not self.thinking else self.thinking.start
        self._border = template.output_border(model.tokenizer) if not self.thinking else self.thinking.border
        self._writer = GreedyWriter(model, answer_tokens)

    @property
    def turns(self) -> tuple[Generator, ...]:
        """As whom it is fitted: update u of a fit (from 0) reads as number u modulo their count. Of
        'blocks-then-full' there are two, of the same model."""
        if self.passage_attention != "blocks-then-full":
            return (self,)
        other = copy.copy(self)
        other.passage_attention = "full"
        return self, other

    def ordered(self, permutation: Permutation, path: QuestionPath | None = None) -> Permutation:
        """The selection as it is read: by the retriever's rank all orders of a set are one. What the rounds
        of a `path` selected is read round by round, in each by its own query's rank: the ranks and scores of
        two queries do not compare."""
        if self.order != "retriever":
            return permutation
        if path is None:
            return tuple(sorted(permutation))
        rest, read = iter(permutation), list[int]()
        for one in path.rounds:
            own = sorted((rank, next(rest)) for rank in one.permutation)
            read += [place for _, place in own]
        return tuple(read)

    def prompt(self, reading: Reading) -> Ints:
        """The prompt's token ids, without a thought. Raises `ConfigError` for a prompt that the model has no
        positions for."""
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
        prompt = Prompt.of(ids, self.links)
        longest, limit = len(prompt.tokens) + self.answer_tokens + 1, self.model.max_positions
        longest += 0 if self.thinking is None else self.thinking.longest
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
        warns (RagdroWarning).
        """
        text = reading.question.answers[0] if answer is None else answer
        return self.sequences(reading, [self.answer_ids(reading.question, text)])[0]

    def sequences(self, reading: Reading, answers: Sequence[Sequence[int]]) -> list[ScoredSequence]:
        """The sequence of each of several answers' tokens behind one reading (and its thought)."""
        prompt = self._before_answer(reading)
        return [prompt.then(answer) for answer in answers]

    def _before_answer(self, reading: Reading) -> Prompt:
        """What the answer stands behind."""
        prompt = self._prompt(reading)
        if self.thinking is None:
            return prompt
        assert reading.thought is not None
        return self.thinking.before_answer(prompt, reading.thought.tokens)

    def scored_thought(self, reading: Reading) -> ScoredSequence:
        """The sequence whose log-probability is log p(r|x,d_z) of the reading's thought."""
        assert reading.thought is not None
        return self._prompt(reading).then(reading.thought.tokens)

    def learned(self, readings: Sequence[Reading]) -> SequenceGroup:
        """What is trained of one question's readings: `group` and, behind it, their thoughts in order, where
        a thought comes first."""
        group = self.group(readings)
        if self.thinking is None:
            return group
        return SequenceGroup.of([*group.sequences, *map(self.scored_thought, readings)])

    def sample_thoughts(
        self, readings: Sequence[Reading], uniforms: Sequence[NDArray[np.float64]], max_tokens: int
    ) -> list[list[Thought]]:
        """Thoughts drawn behind each reading, one for each row of its `uniforms` [thoughts, tokens]."""
        assert self.thinking is not None
        return self.thinking.sample([self.prompt(r) for r in readings], uniforms, max_tokens)

    def answer_ids(self, question: Question, answer: str) -> list[int]:
        """The answer's tokens and the end token, or its first `answer_tokens` tokens."""
        tokenizer, counts = self.model.tokenizer, self.template.counts
        ids = self._written(answer)
        counts.answers += 1
        if len(ids) <= self.answer_tokens:
            return [*ids, tokenizer.end_id]
        counts.answers_cut += 1
        if counts.answers_cut == 1:
            warn(
                f"{tokenizer.name}: an answer to question '{question.id}' takes {len(ids)} tokens and is cut:"
                f" generator.answer_tokens is {self.answer_tokens}"
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
        """The greedy answer to each reading; where a thought comes first, behind the likeliest one unless the
        reading has one."""
        prompts = [self._before_answer(r) for r in self.thought_of(readings, max_tokens)]
        texts = self._writer.write(prompts, max_tokens)
        return [self.model.tokenizer.decode(ids) for ids in texts]

    def thought_of(self, readings: Sequence[Reading], max_tokens: int) -> list[Reading]:
        """The readings, those without a thought with the likeliest one where a thought comes first."""
        if self.thinking is None:
            return list(readings)
        missing = [i for i, r in enumerate(readings) if r.thought is None]
        thoughts = self.thinking.greedy([self.prompt(readings[i]) for i in missing], max_tokens)
        written = dict(zip(missing, thoughts, strict=True))
        return [replace(r, thought=written[i]) if i in written else r for i, r in enumerate(readings)]

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
        link_tokens: int = 0,
        linked: LinkedTokens = "last",
        think: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> Generator:
        """A generator ready to `answer`: a checkpoint folder, a hub name or a `tiny:` name.

        An answer has at most `answer_tokens` tokens. `prompt`: a template by name, or a YAML file's path.
        A question longer than `question_tokens` and a passage (title and text) longer than `passage_tokens`
        are cut; `passage_attention`: as it was trained (see `Generator`, as of what stands
        behind it). `think`: so many tokens are written before the answer at most, which takes a `prompt`
        that says so (`thinking`). The rest is in `ragdro.lm.pretrained`. Raises `ModelError` for what cannot
        be loaded, `ConfigError` for a value out of range or an unknown template.
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
            link_tokens=link_tokens,
            linked=linked,
            think=think,
        )

    def answer(self, question: str, passages: Sequence[PassageLike]) -> str:
        """The greedy answer to a question from passages, read in the order given (none: from the question).

        Raises `DataError` for what is no passage, `ConfigError` for a prompt that the model has no positions
        for.
        """
        return self.answer_many([reading_of(question, passages)], _ONE_QUESTION)[0]

    def log_likelihood(self, question: str, passages: Sequence[PassageLike], answer: str) -> float:
        """log p(y|x,d_z) of `answer` in nats: the sum over its tokens and the end token (as in
        `scored`), behind the likeliest thought where one comes first.

        Raises as `answer` does, and `DataError` for an answer of more than `answer_tokens` tokens.
        """
        length = len(self._written(answer))
        if length > self.answer_tokens:
            raise DataError(
                f"answer: has {length} tokens, more than answer_tokens = {self.answer_tokens}:"
                f" {brief(answer)}"
            )
        (read,) = self.thought_of([reading_of(question, passages)], _ONE_QUESTION)
        sequence = self.scored(read, answer)
        return score_all(self.model, [SequenceGroup.of([sequence])], _ONE_QUESTION)[0][0]


_ONE_QUESTION = 1
"""A budget of tokens that puts each question into a batch of its own."""
