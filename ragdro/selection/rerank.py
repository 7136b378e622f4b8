"""Reranking: what a selector makes of a question and passages that somebody has, in full.

In: a selector, a question, its passages. Out: the passages in order, each with the probability of being
chosen where it was chosen, of being chosen first, and of being in the list at all. Everything comes from one
reading of the prompt: where there are few possible lists all of them are scored; elsewhere lists are drawn
beside the greedy one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ragdro.selection.inclusion import inclusion, standard_errors
from ragdro.types import Candidates, Passage, Permutation, Selection, Task

ALL_LISTS = 720
"""Up to so many possible lists, all of them are scored instead of some being drawn."""


@runtime_checkable
class ListModel(Protocol):
    """What reranking needs of a selector; `ragdro.selection.selector.Selector` says what each is."""

    k: int
    independent: bool
    stop: bool

    def list_length(self, candidates: Candidates) -> int: ...

    def steps(self, candidates: int) -> int: ...

    def log_prob(self, task: Task, permutations: Sequence[Permutation], max_tokens: int) -> list[float]: ...

    def survey(
        self, tasks: Sequence[Task], uniforms: Sequence[np.ndarray], max_tokens: int
    ) -> list[tuple[Selection, list[float], list[Any]]]: ...


@dataclass(frozen=True, slots=True)
class RankedPassage:
    """A passage with the selector's probabilities (between 0 and 1).

    `index`: its place among the passages given, from 0. `probability`: of being chosen where it was chosen,
    given those chosen before it; None where it was not selected. `first`: of being chosen first. `inclusion`:
    of being in the list at all, with its standard error `inclusion_error` (0 where it is exact).
    """

    passage: Passage
    index: int
    probability: float | None
    first: float
    inclusion: float
    inclusion_error: float


@dataclass(frozen=True, slots=True)
class Reranking:
    """All passages of a question: those selected, in the order selected, then the others, by `inclusion`.

    `lists`: how many lists `inclusion` comes from: all that there are if `exact`, else so many drawn.
    """

    question: str
    passages: tuple[RankedPassage, ...]
    lists: int
    exact: bool

    @property
    def selected(self) -> tuple[Passage, ...]:
        """The selected passages in the order selected."""
        return tuple(ranked.passage for ranked in self.passages if ranked.probability is not None)


def rerank(
    selector: ListModel, tasks: Sequence[Task], samples: int, seed: int, max_tokens: int
) -> list[Reranking]:
    """`Selector.rerank` of every question: what a question gets does not depend on those beside it."""
    rankings: dict[int, Reranking] = {}
    drawn: list[int] = []
    for i, task in enumerate(tasks):
        count = len(task.candidates.passages)
        lists = all_lists(count, _most(selector, task), stop=selector.stop)
        if lists is None:
            drawn.append(i)
        else:
            rankings[i] = _from_all(selector, task, lists)
    uniforms = _uniforms(selector, [tasks[i] for i in drawn], samples, seed)
    surveys = selector.survey([tasks[i] for i in drawn], uniforms, max_tokens)
    for i, (selection, log_first, draws) in zip(drawn, surveys, strict=True):
        count, lists = len(tasks[i].candidates.passages), [draw.permutation for draw in draws]
        included = inclusion(lists, [1.0] * samples, count)
        errors = standard_errors(lists, [1.0] * samples, count)
        ranked = _ranked(tasks[i], selection, np.exp(log_first), included, errors)
        rankings[i] = Reranking(tasks[i].question.question, ranked, samples, exact=False)
    return [rankings[i] for i in range(len(tasks))]


def _most(selector: ListModel, task: Task) -> int:
    return 1 if selector.independent else selector.list_length(task.candidates)


def _from_all(selector: ListModel, task: Task, lists: list[Permutation]) -> Reranking:
    """From the probabilities of all lists that there are."""
    count = len(task.candidates.passages)
    p = np.exp(selector.log_prob(task, lists, max_tokens=1))
    p /= p.sum()  # to the last digit of single precision it did
    selection = greedy_of(lists, p, selector.k, independent=selector.independent)
    first = inclusion([z[:1] for z in lists], p.tolist(), count)
    ranked = _ranked(task, selection, first, inclusion(lists, p.tolist(), count), np.zeros(count))
    return Reranking(task.question.question, ranked, len(lists), exact=True)


def _uniforms(
    selector: ListModel, tasks: Sequence[Task], samples: int, seed: int
) -> list[NDArray[np.float64]]:
    """[samples, steps] for each question: its own numbers, behind them zeros, which nothing looks at."""
    steps = [_most(selector, t) * selector.steps(len(t.candidates.passages)) for t in tasks]
    uniforms = []
    for own in steps:
        numbers = np.zeros((samples, max(steps)))
        numbers[:, :own] = np.random.default_rng(seed).random((samples, own))
        uniforms.append(numbers)
    return uniforms


def all_lists(count: int, most: int, *, stop: bool) -> list[Permutation] | None:
    """Every list of `most` of `count` candidates (with `stop`, of 1 to `most`); None where lists of several
    are more than `ALL_LISTS`."""
    lengths = range(1 if stop else most, most + 1)
    if most > 1 and sum(math.perm(count, length) for length in lengths) > ALL_LISTS:
        return None
    return [z for length in lengths for z in permutations(range(count), length)]


def greedy_of(
    lists: Sequence[Permutation], p: NDArray[np.float64], k: int, *, independent: bool = False
) -> Selection:
    """What `Selector.greedy` selects where `p` are the probabilities of all `lists` that there are."""
    if independent:
        best = np.argsort(-p, kind="stable")[:k].tolist()
        return Selection(tuple(best), tuple(float(p[i]) for i in best), k, probability_of="first_choice")
    chosen: Permutation = ()
    probabilities: list[float] = []
    below = dict(zip(lists, p.tolist(), strict=True))
    while True:
        ends = below.pop(chosen, 0.0)
        goes_on: dict[int, float] = {}
        for z, value in below.items():
            goes_on[z[len(chosen)]] = goes_on.get(z[len(chosen)], 0.0) + value
        total = sum(goes_on.values())
        if not goes_on or ends >= total:
            return Selection(chosen, tuple(probabilities), k)
        best_next = min(goes_on, key=lambda i: (-goes_on[i], i))
        chosen = (*chosen, best_next)
        probabilities.append(goes_on[best_next] / (total + ends))
        below = {z: value for z, value in below.items() if z[: len(chosen)] == chosen}


def _ranked(
    task: Task,
    selection: Selection,
    first: NDArray[np.float64],
    included: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> tuple[RankedPassage, ...]:
    passages = task.candidates.passages
    chosen = dict(zip(selection.permutation, selection.probabilities or (), strict=True))
    others = [i for i in range(len(passages)) if i not in chosen]
    others.sort(key=lambda i: (-included[i], -first[i], i))
    return tuple(
        RankedPassage(passages[i], i, chosen.get(i), float(first[i]), float(included[i]), float(errors[i]))
        for i in (*chosen, *others)
    )
