"""Selections from more candidates than the selector reads: against the rounds worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ragdro.errors import ConfigError
from ragdro.selection import tournament
from ragdro.selection.rerank import rerank
from ragdro.types import Candidates, Task
from tests.worlds import pocket_rag, pocket_tasks


def part(task: Task, group: list[int]) -> Task:
    passages = tuple(task.candidates.passages[i] for i in group)
    return Task(task.question, Candidates(task.question.id, passages))


def test_few_candidates_are_selected_from_as_ever() -> None:
    rag, tasks = pocket_rag(k=2, n=5), pocket_tasks(3, 5)
    assert tournament.select(rag.selector, tasks, 400) == rag.selector.greedy(tasks, 400)


def test_the_rounds_of_thirteen_candidates() -> None:
    """N = 5, K = 2: thirteen play in groups of 5, 5 and 3, six in groups of 5 and 1, then three."""
    selector, task = pocket_rag(k=2, n=5, seed=3).selector, pocket_tasks(1, 13)[0]

    def winners(group: list[int]) -> list[int]:
        return [group[i] for i in selector.greedy([part(task, group)], 400)[0].permutation]

    groups = ([0, 2, 4, 6, 8], [1, 3, 5, 7, 9], [10, 11, 12])
    first = sorted(i for group in groups for i in winners(group))
    second = sorted(winners(first[:5]) + winners(first[5:]))
    assert len(first) == 6 and len(second) == 3
    (selection,) = tournament.select(selector, [task], 400)
    assert list(selection.permutation) == winners(second)
    (alone,) = selector.greedy([part(task, second)], 400)
    assert selection.probabilities == pytest.approx(alone.probabilities)
    (prediction,) = pocket_rag(k=2, n=5, seed=3).predict([task])
    assert prediction.selection.permutation == selection.permutation


@pytest.mark.parametrize("candidates", [4, 5, 6, 13, 26])
def test_scores_are_probabilities_that_never_contradict_the_order(candidates: int) -> None:
    selector, tasks = pocket_rag(k=2, n=5).selector, pocket_tasks(3, candidates)
    orders = tournament.order(selector, tasks, samples=16, seed=0, max_tokens=400)
    for ranked, selection in zip(orders, tournament.select(selector, tasks, 400), strict=True):
        assert sorted(r.index for r in ranked) == list(range(candidates))
        assert tuple(r.index for r in ranked if r.probability is not None) == selection.permutation
        assert tuple(r.index for r in ranked[: len(selection.permutation)]) == selection.permutation
        scores = [r.score for r in ranked]
        assert scores == sorted(scores, reverse=True) and scores[-1] >= 0 and scores[0] <= 1


def test_scores_are_pooled_inclusions() -> None:
    """Least squares under a fixed order keeps the mean: the scores sum to K, as the probabilities do."""
    selector, task = pocket_rag(k=2, n=5).selector, pocket_tasks(1, 5)[0]
    (ranked,) = tournament.order(selector, [task], samples=16, seed=0, max_tokens=400)
    (whole,) = rerank(selector, [task], 16, 0, 400)
    assert whole.exact and sum(r.score for r in ranked) == pytest.approx(2)
    inclusion = [p.inclusion for p in whole.passages]
    assert [r.index for r in ranked] == [p.index for p in whole.passages]
    # Pool adjacent violators, by its minimax formula.
    expected = [
        min(max(np.mean(inclusion[i : j + 1]) for j in range(at, 5)) for i in range(at + 1))
        for at in range(5)
    ]
    assert [r.score for r in ranked] == pytest.approx(expected)


def test_a_question_gets_the_same_whatever_is_beside_it() -> None:
    selector, tasks = pocket_rag(k=3, n=12).selector, pocket_tasks(4, 12)
    tasks[1] = part(tasks[1], [0, 1, 2, 3, 5, 7, 8, 9, 10, 11])
    together = rerank(selector, tasks, 16, 0, 100_000)
    for task, found in zip(tasks, together, strict=True):
        (alone,) = rerank(selector, [task], 16, 0, 1)
        assert [p.index for p in found.passages] == [p.index for p in alone.passages]
        assert [p.inclusion for p in found.passages] == [p.inclusion for p in alone.passages]
        assert [p.first for p in found.passages] == pytest.approx([p.first for p in alone.passages], abs=1e-5)


def test_a_selector_that_drops_nobody_cannot_choose_from_more() -> None:
    with pytest.raises(ConfigError, match=r"6 passages: the selector reads 5 and selects 5"):
        tournament.select(pocket_rag(k=5, n=5).selector, pocket_tasks(1, 6), 400)
