"""Marginal answers: the system's own prediction sum_z p(z|x) p(y|x,d_z), not the answer to one list.

In: both models, questions with what their answers are summed over (`ragdro.latent`): lists z, or paths h
where a question is asked more than once, sum_h p(h|x) p(y|x,read(h)). Out: `Prediction`s whose answer has the
largest probability over them, summed over texts that are the same to the metric. The answers that compete
are the greedy ones of those lists, all of them scored under every list. Of a generator that thinks the sum
runs over lists and thoughts, s of them drawn for each list: sum_z p(z|x) 1/s sum_j p(y|x,d_z,r_j) is
unbiased, and the answers that compete are those of every thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ragdro.config.answering import Answering
from ragdro.evaluation.marginal import ranked_answers
from ragdro.generation.answers import AnswerTable, answer_tables
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.latent import Latent, selected
from ragdro.rewriting.asking import Asking
from ragdro.selection.lists import WeightedList, WeightedLists, hash_of
from ragdro.selection.selector import Selector
from ragdro.types import AnswerDistribution, Prediction, Selection, Task, Thought

_THOUGHTS = 1
"""Sets the thoughts' random numbers apart from the lists'."""


def marginal_predictions(
    selector: Selector,
    generator: Generator,
    latents: Sequence[Latent],
    answering: Answering,
    max_tokens: int,
    asking: Asking | None = None,
) -> list[Prediction]:
    """The marginal answer of every question over its `latents`."""
    ordered = [one.readings(generator) for one in latents]
    distinct = [list(dict.fromkeys(own)) for own in ordered]
    read = [[Reading.of(one.task, z) for z in own] for one, own in zip(latents, distinct, strict=True)]
    readings = read if generator.thinking is None else _thought_of(generator, read, answering, max_tokens)
    tables = answer_tables(generator, readings, max_tokens)
    thoughts = 0 if generator.thinking is None else answering.thoughts
    predictions = [
        _answer(one.lists, [own.index(z) for z in which], table, thoughts)
        for one, which, own, table in zip(latents, ordered, distinct, tables, strict=True)
    ]
    supports = [(one, support) for one, (_, support, _) in zip(latents, predictions, strict=True)]
    selections = selected(selector, asking, supports, max_tokens)
    return [
        _prediction(task, selection, distribution, answering.threshold, own[best].thought)
        for (task, selection), own, (distribution, _, best) in zip(
            selections, readings, predictions, strict=True
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


def _answer(
    lists: WeightedLists, reading_of: Sequence[int], table: AnswerTable, thoughts: int
) -> tuple[AnswerDistribution, WeightedList, int]:
    """The distribution, the list that supports the answer most (the largest p(z|x) p(y|x,d_z), the mean over
    its thoughts) and which of the table's readings does, of that list.

    `reading_of`: which of the distinct readings each list leads to; each is in the table as often as there
    are `thoughts` (0: once).
    """
    each = max(1, thoughts)
    weights = np.zeros(len(table.greedy) // each)
    np.add.at(weights, list(reading_of), [z.weight for z in lists.lists])
    by_thought = (weights / each).repeat(each).tolist()
    ranked, likelihoods = ranked_answers(table.answers, table.greedy, table.log_likelihoods, by_thought)
    by_reading = likelihoods.reshape(-1, each)
    priors = np.exp([z.log_prior for z in lists.lists])
    best = int(np.argmax(priors * by_reading.mean(1)[list(reading_of)]))
    best_reading = reading_of[best] * each + int(np.argmax(by_reading[reading_of[best]]))
    exact = lists.exact and not thoughts
    distribution = AnswerDistribution(tuple(ranked), lists.count, exact, thoughts)
    return distribution, lists.lists[best], best_reading


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
