"""What the limits of tokens and positions do to a run's texts, by their lengths, without their prompts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ragdro.prompts.template import Budget, CutCounts
from ragdro.selection.selector import Selector
from ragdro.system import Rag, reading
from ragdro.types import Passage, Task

_SAMPLE = 100
_BORDER = 2
"""Tokens more that a text may take between ours."""


def cut_fractions(rag: Rag, tasks: Sequence[Task]) -> dict[str, float]:
    """The fraction that is cut of what each setting limits, by its key (`selector.passage_tokens`).

    Of at most 100 tasks, at equal distances; the generator reads the retriever's first K. What the prompts
    have counted so far stays as it is.
    """
    counted = (("selector", selector_cuts(rag.selector, tasks)), ("generator", _generator_cuts(rag, tasks)))
    return {
        f"{role}.{name.removesuffix('s')}_tokens": fraction
        for role, counts in counted
        for name, fraction in counts.fractions().items()
    }


def selector_cuts(selector: Selector, tasks: Sequence[Task]) -> CutCounts:
    """What the selector's prompts of at most 100 of the tasks are made of, and what is cut of it."""
    tokenizer, counts = selector.model.tokenizer, CutCounts()
    for task in _sample(tasks):
        passages, question = task.candidates.passages, task.question.question
        selector.template.cuts(tokenizer, question, passages, selector.budget, counts)
    return counts


def _generator_cuts(rag: Rag, tasks: Sequence[Task]) -> CutCounts:
    generator, counts = rag.generator, CutCounts()
    for task in _sample(tasks):
        read = reading(task, tuple(range(rag.selector.list_length(task.candidates))))
        tokenizer, question = generator.model.tokenizer, read.question.question
        generator.template.cuts(tokenizer, question, read.passages, generator.budget, counts)
        counts.answers += 1
        counts.answers_cut += generator.is_cut(read.question.answers[0])
    return counts


def _sample(tasks: Sequence[Task]) -> Sequence[Task]:
    return tasks[:: max(1, -(-len(tasks) // _SAMPLE))]


def refuse_long_prompts(selector: Selector, tasks: Sequence[Task]) -> None:
    """Raises `RetrievalError` for a task without candidates or with more than N, `ConfigError` for one whose
    prompt the model has no positions for.

    Only what might be too long by its budgets and by the lengths that the tokenizer has stored is built, to
    see; what is so by a hair beyond both is refused where it is first used.
    """
    limit, template, tokenizer = selector.model.max_positions, selector.template, selector.model.tokenizer

    @lru_cache
    def around(passages: int) -> int:
        """Tokens of a prompt but for the texts of a question and so many passages."""
        empty = [Passage("", "", "")] * passages
        ids = template.encode(tokenizer, "", empty, min(selector.k, passages), selector.budget)
        return len(ids) + selector.room(passages) + _BORDER * (2 * passages + 1)

    for task in tasks:
        selector.check(task)
        count = len(task.candidates.passages)
        if limit is None or around(count) + _budgets(selector.budget, count) <= limit:
            continue
        if around(count) + _texts(selector, task) > limit:
            selector.prompt(task)


def _budgets(budget: Budget, passages: int) -> int:
    return budget.question_tokens + passages * budget.passage_tokens


def _texts(selector: Selector, task: Task) -> int:
    """About as many tokens as the task's texts take at most."""
    budget = selector.budget

    def length(text: str, limit: int) -> int:
        line = selector.model.tokenizer.memory(text) if text else None
        return min(limit, len(line) + 1) if line else limit if text else 0

    each = budget.passage_tokens
    passages = (min(each, length(p.title, each) + length(p.text, each)) for p in task.candidates.passages)
    return length(task.question.question, budget.question_tokens) + sum(passages)
