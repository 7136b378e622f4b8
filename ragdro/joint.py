"""Joint answers: of the one list that is most probable together with its own answer.

In: both models, questions with candidates. Out: `Prediction`s: of the greedy list and those drawn
(`ragdro.selection.lists`), each with the generator's greedy answer y to it (and thought r, where it thinks),
the list z with the largest log p(z|x) + log p(y|x,d_z,r), with that answer. It is one term of the sum that a
marginal answer takes whole; no gold answer is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np

from ragdro.config.answering import Answering
from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.selection import tournament
from ragdro.selection.lists import weighted_lists
from ragdro.selection.selector import Selector
from ragdro.types import Prediction, Selection, Task


def joint_predictions(
    selector: Selector, generator: Generator, tasks: Sequence[Task], answering: Answering, max_tokens: int
) -> list[Prediction]:
    """That of every question (ties: the greedy list, then the one drawn first). Of more candidates than the
    selector reads the lists are those of a tournament's last round."""
    last = tournament.last_round(selector, tasks, max_tokens)
    alone = [task for task, _ in last]
    weighted = weighted_lists(selector, alone, answering.samples, answering.seed, max_tokens)
    lists = [own.lists for own in weighted]
    readings = generator.thought_of(
        [
            Reading.of(t, generator.ordered(z.permutation))
            for t, own in zip(alone, lists, strict=True)
            for z in own
        ],
        max_tokens,
    )
    answers = generator.answer_many(readings, max_tokens)
    written = [generator.scored(*pair) for pair in zip(readings, answers, strict=True)]
    spans = list(pairwise(accumulate(map(len, lists), initial=0)))
    scores = score_all(generator.model, [SequenceGroup.of(written[a:b]) for a, b in spans], max_tokens)
    best = [
        int(np.argmax(np.array([z.log_prior for z in own]) + own_scores))
        for own, own_scores in zip(lists, scores, strict=True)
    ]
    chosen = [(task, own[i].permutation) for task, own, i in zip(alone, lists, best, strict=True)]
    probabilities = selector.place_probabilities(chosen, max_tokens)
    most = 1 if selector.independent else selector.k
    return [
        Prediction(
            task,
            Selection(tuple(places[i] for i in z), p, most),
            answers[begin + own_best],
            thought=readings[begin + own_best].thought,
        )
        for task, (_, places), (_, z), p, (begin, _), own_best in zip(
            tasks, last, chosen, probabilities, spans, best, strict=True
        )
    ]
