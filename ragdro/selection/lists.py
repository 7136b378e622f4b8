"""The lists that a question's answer is summed over, each with its weight.

In: the selector, questions with candidates, how many lists may be drawn. Out: distinct lists with weights
that sum to 1, such that sum_z w(z) f(z) estimates sum_z p(z|x) f(z):

- Where no more lists are possible than may be drawn, all of them are taken with p(z|x) itself: exact. The
  same where passages are selected apart from one another: a list is then one passage (RAG-Sequence).
- Elsewhere m lists are drawn from p(z|x) beside the greedy list g, in one reading of the prompt. p(g|x) is
  known exactly, and the draws that are not g are draws from all other lists:
  w(g) = p(g|x), w(z) = (1 - p(g|x)) n(z) / n, where n of the draws are not g, n(z) of them z.
  Given n > 0 that is unbiased: the mean over all m draws without their largest source of noise, how often g
  is among them. With n = 0 the greedy list stands for all (a bias of at most p(g|x)^m (1 - p(g|x))).

The drawn lists' own p(z|x), made to sum to 1, would not do: lists not drawn are left out, and with them most
of the probability where the selector is unsure.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ragdro.selection.rerank import all_lists
from ragdro.selection.selector import Selector
from ragdro.types import Draw, Permutation, Question, QuestionPath, Selection, Task


@dataclass(frozen=True, slots=True)
class WeightedList:
    """A list with its weight in the sum and its exact log p(z|x) (nats). `path`: how it was found, where a
    question is asked more than once; the logarithm is then that of all its decisions."""

    permutation: Permutation
    weight: float
    log_prior: float
    path: QuestionPath | None = None


@dataclass(frozen=True, slots=True)
class WeightedLists:
    """The distinct lists of one question, the greedy one first if lists were drawn. `count`: how many were
    drawn, or are possible if `exact`."""

    lists: tuple[WeightedList, ...]
    count: int
    exact: bool


def weighted_lists(
    selector: Selector, tasks: Sequence[Task], samples: int, seed: int, max_tokens: int
) -> list[WeightedLists]:
    """The lists of every question. The draws are a function of seed and question, whatever stands beside it.

    Raises as `Selector.prompt` does.
    """
    weighted: dict[int, WeightedLists] = {}
    for i, task in enumerate(tasks):
        lists = _few_lists(selector, task, samples)
        if lists is not None:
            weighted[i] = _all_of(lists, selector.log_prob(task, lists, max_tokens))
    drawn = [i for i in range(len(tasks)) if i not in weighted]
    shape = (samples, selector.choices_per_list)
    uniforms = [np.random.default_rng([seed, hash_of(tasks[i].question)]).random(shape) for i in drawn]
    written = selector.select_and_sample([tasks[i] for i in drawn], uniforms, max_tokens)
    for i, (greedy, draws) in zip(drawn, written, strict=True):
        log_p = log_prior(selector, tasks[i], greedy, max_tokens)
        weighted[i] = from_draws(Draw(greedy.permutation, log_p, log_p), draws)
    return [weighted[i] for i in range(len(tasks))]


def _few_lists(selector: Selector, task: Task, samples: int) -> list[Permutation] | None:
    """All lists, where they are no more than would be drawn."""
    count = len(task.candidates.passages)
    if selector.independent:
        return all_lists(count, 1, stop=False)
    stop, most = selector.stop, selector.list_length(task.candidates)
    possible = sum(math.perm(count, length) for length in range(1 if stop else most, most + 1))
    return all_lists(count, most, stop=stop) if possible <= samples else None


def _all_of(lists: Sequence[Permutation], log_p: Sequence[float]) -> WeightedLists:
    weights = np.exp(log_p)
    weights /= weights.sum()  # to the last digit of single precision it did
    entries = map(WeightedList, lists, weights.tolist(), log_p)
    return WeightedLists(tuple(entries), len(lists), exact=True)


def log_prior(selector: Selector, task: Task, greedy: Selection, max_tokens: int) -> float:
    """log p(z|x) of the greedy list. The probabilities of its places do not say how probable an early end
    was, so that a list which may have one is scored."""
    if selector.stop:
        return selector.log_prob(task, [greedy.permutation], max_tokens)[0]
    assert greedy.probabilities is not None
    return float(np.log(greedy.probabilities).sum())


def from_draws(greedy: Draw, draws: Sequence[Draw]) -> WeightedLists:
    """What is decided greedily and what was drawn from p, each distinct one with its weight."""
    distinct = {draw.key: draw for draw in draws}
    counts = Counter(draw.key for draw in draws)
    counts.pop(greedy.key, None)
    others = counts.total()
    p = min(1.0, math.exp(greedy.log_prior)) if others else 1.0
    weights = [p, *((1 - p) * n / others for n in counts.values())]
    decided = [greedy, *(distinct[key] for key in counts)]
    entries = (
        WeightedList(d.permutation, weight, d.log_prior, d.path)
        for d, weight in zip(decided, weights, strict=True)
    )
    return WeightedLists(tuple(entries), len(draws), exact=False)


def hash_of(question: Question) -> int:
    """A number that sets a question's draws apart, by its text alone."""
    return zlib.crc32(question.question.encode())
