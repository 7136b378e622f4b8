"""A world of thoughts small enough to enumerate: three passages, lists of one, thoughts of two tokens.

The reader's vocabulary has about sixteen words, so that every thought can be written down: those that end at
once, with one word, and those that are cut after two. `Exact` sums over all lists and thoughts in float64,
from plain forward passes of whole sequences whose tokens are put together here by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.tree import ScoredSequence
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.selection.list_selector import ListSelector
from ragdro.system import Rag
from ragdro.types import Candidates, Passage, Question, Task
from tests.conftest import random_model, word_level
from tests.invariant.by_hand import Enumerated, textbook_all

PASSAGES = tuple(Passage(word, word, word) for word in ("lake", "mill", "inn"))
TASK = Task(Question("q", "who", ("mill",)), Candidates("q", PASSAGES))
MOST = 2
"""Tokens of the longest thought, its end token among them."""
Choices = tuple[int, tuple[int, ...]]
"""What was decided: which passage is read, the thought's tokens."""


def thought_rag(seed: int = 0) -> Rag:
    """Two random models of different seeds and vocabularies."""
    lists = word_level(["Passages: Question: Selection: [1] > [2] > [3]", "lake mill inn who"])
    words = word_level(["Passages: Question: Thought: Answer:\nlake", "mill inn who"])
    chooser, reader = random_model(lists, seed=2 * seed), random_model(words, seed=2 * seed + 1)
    budget = Budget(12, 12)
    return Rag(
        ListSelector(chooser, load_template("tiny-selector"), k=1, n=3, budget=budget),
        Generator(reader, load_template("tiny-thinking"), budget=budget, answer_tokens=3, think=MOST),
    )


def thoughts_of(size: int, end: int) -> list[tuple[int, ...]]:
    """Every thought: it has ended, or it is cut."""
    others = [i for i in range(size) if i != end]
    return [(end,), *((first, second) for first in others for second in range(size))]


@dataclass(frozen=True)
class Exact(Enumerated):
    """Every list and thought, with log p(z|x), log p(r|x,d_z) and log p(y|x,d_z,r)."""

    choices: list[Choices]
    lists: Tensor
    thoughts: Tensor
    likelihood: Tensor

    @property
    def prior(self) -> Tensor:  # type: ignore[override]
        return self.lists + self.thoughts


def by_hand(
    rag: Rag, choices: Sequence[Choices], answer: Sequence[int] | None = None
) -> tuple[list[ScoredSequence], list[ScoredSequence]]:
    """The sequences of each choice's thought and answer: prompt, thought, ` Answer:`, ` mill` (or the tokens
    of another `answer`) and the end."""
    reader = rag.generator.model
    ids = dict(reader.tokenizer.hf.get_vocab())
    end, between = ids["</s>"], [ids[" "], ids["Answer"], ids[":"]]
    answer = [ids[" "], ids["mill"], end] if answer is None else list(answer)
    thoughts, answers = [], []
    for place, thought in choices:
        prompt = rag.generator.prompt(Reading(TASK.question, (PASSAGES[place],))).tolist()
        written = [token for token in thought if token != end]
        thoughts.append(_behind(prompt, list(thought)))
        answers.append(_behind([*prompt, *written, *between], answer))
    return thoughts, answers


def _behind(context: list[int], scored: list[int]) -> ScoredSequence:
    targets = np.arange(len(context), len(context) + len(scored))
    return ScoredSequence(np.array([*context, *scored]), targets)


def enumerate_thoughts(rag: Rag) -> Exact:
    """Every list and thought of `TASK`, with gradients; the models are float64 from here on."""
    assert isinstance(rag.selector, ListSelector)
    chooser, reader = rag.selector.model.hf.double(), rag.generator.model.hf.double()
    tokenizer = rag.generator.model.tokenizer
    written = thoughts_of(len(tokenizer.hf), int(tokenizer.hf.eos_token_id))
    choices = [(place, thought) for place in range(3) for thought in written]
    of_list = textbook_all(chooser, [rag.selector.scored(TASK, (place,)) for place in range(3)])
    thoughts, answers = by_hand(rag, choices)
    return Exact(
        choices,
        of_list.repeat_interleave(len(written)),
        textbook_all(reader, thoughts),
        textbook_all(reader, answers),
    )


@cache
def exact(seed: int = 0) -> Exact:
    """The same without gradients."""
    with torch.no_grad():
        return enumerate_thoughts(thought_rag(seed))
