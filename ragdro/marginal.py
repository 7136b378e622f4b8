"""Marginal answers: the system's own prediction sum_z p(z|x) p(y|x,d_z), not the answer to one list.

In: both models, questions with candidates. Out: `Prediction`s whose answer has the largest probability over
the lists, summed over texts that are the same to the metric. The sum runs over the lists of
`ragdro.selection.lists`; the answers that compete are the greedy ones of those lists, all of them scored
under every list. Of a generator that thinks it runs over lists and thoughts, s of them drawn for each list:
sum_z p(z|x) 1/s sum_j p(y|x,d_z,r_j) is unbiased, and the answers that compete are those of every thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ragdro.config.answering import Answering
from ragdro.evaluation.marginal import ranked_answers
from ragdro.generation.answers import AnswerTable, answer_tables
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.selection import tournament
from ragdro.selection.lists import WeightedList, WeightedLists, hash_of, weighted_lists
from ragdro.selection.selector import Selector
from ragdro.types import AnswerDistribution, Permutation, Prediction, Selection, Task, Thought

_THOUGHTS = 1
"""Sets the thoughts' random numbers apart from the lists'."""


@dataclass(frozen=True, slots=True)
class _Round:
    """A question's candidates in the last round: which of all they are, and the lists of them. `selects`:
    whether a selector chose."""

    task: Task
    places: Sequence[int]
    lists: WeightedLists
    selects: bool


def marginal_predictions(
    selector: Selector,
    generator: Generator,
    tasks: Sequence[Task],
    answering: Answering,
    max_tokens: int,
    *,
    selects: bool,
) -> list[Prediction]:
    """The marginal answer of every question. `selects` false: the retriever's first K are the one list there
    is. Of more candidates than the selector reads the lists are those of a tournament's last round, the
    rounds before it being greedy.
    """
    rounds = _rounds(selector, tasks, answering, max_tokens) if selects else _one_list(selector, tasks)
    ordered = [[generator.ordered(z.permutation) for z in one.lists.lists] for one in rounds]
    distinct = [list(dict.fromkeys(own)) for own in ordered]
    read = [[Reading.of(r.task, z) for z in own] for r, own in zip(rounds, distinct, strict=True)]
    readings = read if generator.thinking is None else _thought_of(generator, read, answering, max_tokens)
    tables = answer_tables(generator, readings, max_tokens)
    thoughts = 0 if generator.thinking is None else answering.thoughts
    predictions = [
        _answer(one, [own.index(z) for z in which], table, thoughts)
        for one, which, own, table in zip(rounds, ordered, distinct, tables, strict=True)
    ]
    selections = _selections(selector, rounds, [support for _, support, _ in predictions], max_tokens)
    return [
        _prediction(task, selection, distribution, answering.threshold, own[best].thought)
        for task, selection, own, (distribution, _, best) in zip(
            tasks, selections, readings, predictions, strict=True
        )
    ]


def _thought_of(
    generator: Generator, readings: Sequence[Sequence[Reading]], answering: Answering, max_tokens: int
) -> list[list[Reading]]:
    """Each reading with each of as many thoughts as `answering` asks for. They are a function of the seed,
    the question and which of its readings it is."""
    assert generator.thinking is not None
    shape = (answering.thoughts, generator.thinking.most)
    places = [(number, i) for number, own in enumerate(readings) for i in range(len(own))]
    uniforms = [
        np.random.default_rng([answering.seed, hash_of(readings[number][i].question), _THOUGHTS, i]).random(
            shape
        )
        for number, i in places
    ]
    drawn = generator.sample_thoughts([readings[number][i] for number, i in places], uniforms, max_tokens)
    expanded: list[list[Reading]] = [[] for _ in readings]
    for (number, i), thoughts in zip(places, drawn, strict=True):
        expanded[number] += [replace(readings[number][i], thought=thought) for thought in thoughts]
    return expanded


def _rounds(selector: Selector, tasks: Sequence[Task], answering: Answering, max_tokens: int) -> list[_Round]:
    last = tournament.last_round(selector, tasks, max_tokens)
    lists = weighted_lists(selector, [t for t, _ in last], answering.samples, answering.seed, max_tokens)
    return [_Round(task, places, own, True) for (task, places), own in zip(last, lists, strict=True)]


def _one_list(selector: Selector, tasks: Sequence[Task]) -> list[_Round]:
    rounds = []
    for task in tasks:
        first = tuple(range(selector.list_length(task.candidates)))
        lists = WeightedLists((WeightedList(first, 1.0, 0.0),), 1, exact=True)
        rounds.append(_Round(task, range(len(task.candidates.passages)), lists, False))
    return rounds


def _answer(
    one: _Round, reading_of: Sequence[int], table: AnswerTable, thoughts: int
) -> tuple[AnswerDistribution, Permutation, int]:
    """The distribution, the list that supports the answer most (the largest p(z|x) p(y|x,d_z), the mean over
    its thoughts) and which of the table's readings does, of that list.

    `reading_of`: which of the distinct readings each list leads to; each is in the table as often as there
    are `thoughts` (0: once).
    """
    each = max(1, thoughts)
    weights = np.zeros(len(table.greedy) // each)
    np.add.at(weights, list(reading_of), [z.weight for z in one.lists.lists])
    shares = (weights / each).repeat(each).tolist()
    ranked, likelihoods = ranked_answers(table.answers, table.greedy, table.log_likelihoods, shares)
    by_reading = likelihoods.reshape(-1, each)
    priors = np.exp([z.log_prior for z in one.lists.lists])
    best = int(np.argmax(priors * by_reading.mean(1)[list(reading_of)]))
    best_reading = reading_of[best] * each + int(np.argmax(by_reading[reading_of[best]]))
    exact = one.lists.exact and not thoughts
    distribution = AnswerDistribution(tuple(ranked), one.lists.count, exact, thoughts)
    return distribution, one.lists.lists[best].permutation, best_reading


def _selections(
    selector: Selector, rounds: Sequence[_Round], supports: Sequence[Permutation], max_tokens: int
) -> list[Selection]:
    """The supporting lists by the candidates' own places, with the probability of each choice."""
    chosen = [(r.task, z) for r, z in zip(rounds, supports, strict=True) if r.selects]
    probabilities = iter(selector.place_probabilities(chosen, max_tokens))
    most = 1 if selector.independent else selector.k
    return [
        Selection(tuple(r.places[i] for i in z), next(probabilities), most)
        if r.selects
        else Selection(z, None, selector.k)
        for r, z in zip(rounds, supports, strict=True)
    ]


def _prediction(
    task: Task,
    selection: Selection,
    distribution: AnswerDistribution,
    threshold: float,
    thought: Thought | None,
) -> Prediction:
    abstained = distribution.confidence < threshold
    answer = "" if abstained else distribution.answers[0].answer
    return Prediction(task, selection, answer, distribution, abstained, thought)
