"""Query likelihood: how probable a question is behind a passage, under a causal LM as it is.

In: a generator, questions with candidates. Out: log p(question | passage) of every candidate, in nats (the
sum over the question's tokens). It needs no labels and no training, and orders candidates well (Sachan et
al., "Improving Passage Retrieval with Zero-Shot Question Generation", EMNLP 2022). What the prompts of one
question share is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ragdro.errors import ConfigError
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.lm.tree import ScoredSequence
from ragdro.profiling import phase
from ragdro.prompts import PromptTemplate
from ragdro.types import Passage, Question, Task

TEMPLATE = PromptTemplate(
    user="Below is a passage.\n\n{passages}\nWrite a question that it helps to answer.\nQuestion:",
    passage="{title}\n{text}\n",
    start=" ",
)


@phase("query likelihood")
def query_log_likelihoods(generator: Generator, tasks: Sequence[Task], max_tokens: int) -> list[list[float]]:
    """log p(question | passage) of each candidate of each question, by the generator's model and budgets.

    Raises `ConfigError` for a passage and question that the model has no positions for.
    """
    groups = [query_group(generator, task) for task in tasks]
    return score_all(generator.model, groups, max_tokens)


def query_group(generator: Generator, task: Task) -> SequenceGroup:
    """One sequence a candidate, whose log-probability is log p(question | passage)."""
    return SequenceGroup.of([_scored(generator, task.question, p) for p in task.candidates.passages])


def _scored(generator: Generator, question: Question, passage: Passage) -> ScoredSequence:
    tokenizer, budget = generator.model.tokenizer, generator.budget
    prompt = TEMPLATE.encode(tokenizer, "", [passage], 1, budget)
    asked = tokenizer.cut(question.question, budget.question_tokens, turns=True)
    text = TEMPLATE.output_start(tokenizer) + asked.strip()
    written = tokenizer.continuation(TEMPLATE.output_border(tokenizer), text)
    length, limit = len(prompt) + len(written), generator.model.max_positions
    if limit is not None and length > limit:
        raise ConfigError(
            f"generator.passage_tokens: a passage and question '{question.id}' need {length} tokens, more"
            f" than the model's {limit} positions; lower passage_tokens, or choose another warm_up.teacher"
        )
    return ScoredSequence(np.array(prompt + written), np.arange(len(prompt), length))
