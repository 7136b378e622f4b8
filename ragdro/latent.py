"""What a question's answer is summed over: lists, or paths where it is asked more than once.

In: the selector, what asks again (if anything does), questions with candidates. Out: of each question the
lists or paths with their weights (`ragdro.selection.lists`, `ragdro.rewriting.drawing`), and of those that
are chosen in the end the selections that a prediction holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ragdro.config.answering import Answering
from ragdro.generation.generator import Generator
from ragdro.rewriting.asking import Asking
from ragdro.rewriting.drawing import weighted_paths
from ragdro.selection import tournament
from ragdro.selection.lists import WeightedList, WeightedLists, weighted_lists
from ragdro.selection.selector import Selector
from ragdro.types import Permutation, Selection, Task


@dataclass(frozen=True, slots=True)
class Latent:
    """A question as it came (`asked`), and its `lists`: of the candidates of `task`, which are the `places`
    of those it came with, or all that its paths have found. `most`: K; `selects`: a selector chose."""

    asked: Task
    task: Task
    places: Sequence[int]
    lists: WeightedLists
    most: int
    selects: bool = True

    def readings(self, generator: Generator) -> list[Permutation]:
        """Of each list what is read, in reading order."""
        return [generator.ordered(z.permutation, z.path) for z in self.lists.lists]


def latents(
    selector: Selector, asking: Asking | None, tasks: Sequence[Task], answering: Answering, max_tokens: int
) -> list[Latent]:
    """Those of every question. Of more candidates than the selector reads the lists are those of a
    tournament's last round, the rounds before it being greedy."""
    samples, seed = answering.samples, answering.seed
    if asking is not None:
        paths = weighted_paths(asking, selector, tasks, samples, seed, max_tokens)
        return [
            Latent(task, whole, range(len(whole.candidates.passages)), own, asking.most)
            for task, (whole, own) in zip(tasks, paths, strict=True)
        ]
    last = tournament.last_round(selector, tasks, max_tokens)
    most = 1 if selector.independent else selector.k
    lists = weighted_lists(selector, [alone for alone, _ in last], samples, seed, max_tokens)
    return [
        Latent(task, alone, places, own, most)
        for task, (alone, places), own in zip(tasks, last, lists, strict=True)
    ]


def retrieved_first(tasks: Sequence[Task], k: int) -> list[Latent]:
    """The retriever's first `k` of every question, which nobody chose."""
    result = []
    for task in tasks:
        count = len(task.candidates.passages)
        only = WeightedList(tuple(range(min(k, count))), 1.0, 0.0)
        lists = WeightedLists((only,), 1, exact=True)
        result.append(Latent(task, task, range(count), lists, k, selects=False))
    return result


def selected(
    selector: Selector,
    asking: Asking | None,
    chosen: Sequence[tuple[Latent, WeightedList]],
    max_tokens: int,
) -> list[tuple[Task, Selection]]:
    """Each chosen list by the places of the question's own candidates, or of what its path has found, with
    the probability of each choice."""
    paths = [(one.asked, z.path) for one, z in chosen if z.path is not None]
    lists = [(one.task, z.permutation) for one, z in chosen if one.selects and z.path is None]
    of_paths = iter([] if asking is None else asking.selections(selector, paths, max_tokens))
    of_lists = iter(selector.place_probabilities(lists, max_tokens))
    result = []
    for one, z in chosen:
        if z.path is not None:
            result.append(next(of_paths))
            continue
        places = tuple(one.places[i] for i in z.permutation)
        probabilities = next(of_lists) if one.selects else None
        result.append((one.asked, Selection(places, probabilities, one.most)))
    return result
