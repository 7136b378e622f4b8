"""Selecting from more candidates than the selector reads at once: a tournament.

In: a selector that reads N candidates and selects K of them, questions with any number of candidates. Out:
selections, and whole orders with a score each. Candidates are dealt to groups of N (the first ones, in turn,
so that a retriever's best are spread; what is left over is a group of its own). What a group's list holds
goes on to the next round, until N or fewer are left: they play the last round, whose list is the selection.
With N or fewer candidates the last round is the only one, and nothing differs from `Selector.greedy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from scipy.optimize import isotonic_regression

from ragdro.errors import ConfigError
from ragdro.selection.rerank import Reranking, rerank
from ragdro.selection.selector import Selector
from ragdro.types import Candidates, Permutation, Selection, Task
from ragdro.units import counted


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """A candidate by its `index`. `score`: the probability of being in the selected list, evened out so that
    it never rises along the order. `probability`: of being chosen where it was chosen (None: not selected).
    """

    index: int
    score: float
    probability: float | None


@dataclass(frozen=True, slots=True)
class _Reranked:
    whole: Reranking

    @property
    def permutation(self) -> Permutation:
        return tuple(p.index for p in self.whole.passages if p.probability is not None)

    @property
    def inclusion(self) -> dict[int, float]:
        return {p.index: p.inclusion for p in self.whole.passages}


_Result = TypeVar("_Result", bound=Selection | _Reranked)


def select(selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[Selection]:
    """The greedy selection of each question, of however many candidates.

    Raises `ConfigError` where a selector that drops nobody (K = N) gets more than N.
    """

    def play(groups: Sequence[Task]) -> list[Selection]:
        return selector.greedy(groups, max_tokens)

    last, alive = _play_off(selector, tasks, play, lambda _place, group, result: None)
    return [
        replace(ranked, permutation=tuple(own[i] for i in ranked.permutation))
        for own, ranked in zip(alive, last, strict=True)
    ]


def last_round(selector: Selector, tasks: Sequence[Task], max_tokens: int) -> list[tuple[Task, list[int]]]:
    """Each question with the candidates that are left for the last round, and which ones those are.

    The rounds before are greedy. Raises as `select` does.
    """

    def play(groups: Sequence[Task]) -> list[Selection]:
        return selector.greedy(groups, max_tokens)

    alive = _finalists(selector, tasks, play, lambda i, group, result: None, lambda i: None)
    return [(part(task, own), own) for task, own in zip(tasks, alive, strict=True)]


def order(
    selector: Selector, tasks: Sequence[Task], *, samples: int, seed: int, max_tokens: int
) -> list[list[RankedCandidate]]:
    """All candidates of each question: the selected list, then the others, each with its score.

    A score is the candidate's probability of being in its group's list (`Reranking.inclusion`), times that
    of each round before; one that was left behind is taken to have an average chance in the rounds it did not
    see. Those who went further come first. Raises as `select` does.
    """
    factors = [[1.0] * len(task.candidates.passages) for task in tasks]
    behind: list[list[list[int]]] = [[] for _ in tasks]
    fields: list[list[int]] = [[] for _ in tasks]
    """How many played in each round of a question."""

    def play(groups: Sequence[Task]) -> list[_Reranked]:
        return [_Reranked(ranked) for ranked in rerank(selector, groups, samples, seed, max_tokens)]

    def note(i: int, group: Sequence[int], result: _Reranked) -> None:
        for place, value in result.inclusion.items():
            factors[i][group[place]] *= value
        behind[i][-1] += [group[p.index] for p in result.whole.passages if p.probability is None]
        fields[i][-1] += len(group)

    def begin(i: int) -> None:
        behind[i].append([])
        fields[i].append(0)

    last, alive = _play_off(selector, tasks, play, note, begin)
    orders = []
    for i, (own, ranked) in enumerate(zip(alive, last, strict=True)):
        begin(i)
        note(i, own, ranked)
        orders.append(_evened(own, ranked, factors[i], behind[i], fields[i], selector.k))
    return orders


def _evened(
    own: Sequence[int],
    last: _Reranked,
    factors: Sequence[float],
    behind: Sequence[Sequence[int]],
    fields: Sequence[int],
    k: int,
) -> list[RankedCandidate]:
    """The order with scores that do not rise: the nearest such ones (isotonic regression, least squares)."""
    chosen = {own[p.index]: p.probability for p in last.whole.passages if p.probability is not None}
    places, scores = list(chosen), [factors[i] for i in chosen]
    chance = 1.0
    for losers, field in reversed(list(zip(behind, fields, strict=True))):
        ordered = sorted(losers, key=lambda i: -factors[i])  # ties stay as they are ranked
        places += ordered
        scores += [factors[i] * chance for i in ordered]
        chance *= min(1.0, k / field)
    evened = isotonic_regression(scores, increasing=False).x.clip(0.0, 1.0)
    return [RankedCandidate(i, float(s), chosen.get(i)) for i, s in zip(places, evened, strict=True)]


def _play_off(
    selector: Selector,
    tasks: Sequence[Task],
    play: Callable[[Sequence[Task]], list[_Result]],
    note: Callable[[int, Sequence[int], _Result], None],
    begin: Callable[[int], None] = lambda i: None,
) -> tuple[list[_Result], list[list[int]]]:
    """The last round's results, and who played in it; `note` hears of every round before, after `begin`."""
    alive = _finalists(selector, tasks, play, note, begin)
    return play([part(task, own) for task, own in zip(tasks, alive, strict=True)]), alive


def _finalists(
    selector: Selector,
    tasks: Sequence[Task],
    play: Callable[[Sequence[Task]], list[_Result]],
    note: Callable[[int, Sequence[int], _Result], None],
    begin: Callable[[int], None],
) -> list[list[int]]:
    """Who plays in the last round."""
    most = selector.n
    alive = [list(range(len(task.candidates.passages))) for task in tasks]
    while True:
        crowded = [place for place, own in enumerate(alive) if len(own) > most]
        if not crowded:
            return alive
        if selector.k >= most:
            raise ConfigError(
                f"{counted(len(alive[crowded[0]]), 'passages')}: the selector reads {most} and selects"
                f" {selector.k} of them, so it cannot choose from more; give {most} at most"
            )
        groups = [(place, group) for place in crowded for group in _dealt(alive[place], most)]
        results = play([part(tasks[place], group) for place, group in groups])
        for place in crowded:
            alive[place] = []
            begin(place)
        for (place, group), ranked in zip(groups, results, strict=True):
            note(place, group, ranked)
            alive[place] = sorted((*alive[place], *(group[i] for i in ranked.permutation)))


def _dealt(alive: Sequence[int], size: int) -> list[list[int]]:
    """Groups of `size`, dealt in turn, and one of what is left over."""
    full = len(alive) // size
    groups = [list(alive[i : full * size : full]) for i in range(full)]
    return [*groups, list(alive[full * size :])] if len(alive) % size else groups


def part(task: Task, group: Sequence[int]) -> Task:
    """The question with some of its candidates, by their places."""
    candidates = task.candidates
    scores = candidates.scores and tuple(candidates.scores[i] for i in group)
    passages = tuple(candidates.passages[i] for i in group)
    return Task(task.question, Candidates(candidates.question_id, passages, scores))
