"""The answers that several readings of one question lead to, and how probable each is under every reading.

In: for each question its readings (the same question with different passages). Out: the greedy answer of each
reading, and log p(y|x,d_z) of every distinct answer under every reading, in nats. All sequences of a question
are one group: a prompt is computed once for all answers behind it, and what prompts share is, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from ragdro.generation.generator import Generator
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import SequenceGroup, score_all


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """`answers`: the distinct ones; `greedy`: for each reading which of them it leads to;
    `log_likelihoods` [readings, answers] in nats."""

    answers: tuple[str, ...]
    greedy: tuple[int, ...]
    log_likelihoods: NDArray[np.float64]


def answer_tables(
    generator: Generator, readings: Sequence[Sequence[Reading]], max_tokens: int
) -> list[AnswerTable]:
    """The table of every question; each has at least one reading."""
    written = generator.answer_many([one for own in readings for one in own], max_tokens)
    ends = accumulate(map(len, readings), initial=0)
    answers = [written[start:end] for start, end in pairwise(ends)]
    questions = [_distinct(generator, own, texts) for own, texts in zip(readings, answers, strict=True)]
    groups = [
        SequenceGroup.of([sequence for one in own for sequence in generator.sequences(one, distinct)])
        for own, (distinct, _, _) in zip(readings, questions, strict=True)
    ]
    scores = score_all(generator.model, groups, max_tokens)
    return [
        AnswerTable(texts, greedy, np.array(values, np.float64).reshape(len(own), len(texts)))
        for own, (_, texts, greedy), values in zip(readings, questions, scores, strict=True)
    ]


def _distinct(
    generator: Generator, readings: Sequence[Reading], answers: Sequence[str]
) -> tuple[list[tuple[int, ...]], tuple[str, ...], tuple[int, ...]]:
    """The distinct answers' tokens and texts, and which one each reading's is. Answers with the same tokens
    are one, or its probability would count twice."""
    places: dict[tuple[int, ...], int] = {}
    texts: list[str] = []
    greedy = []
    for reading, answer in zip(readings, answers, strict=True):
        tokens = tuple(generator.answer_ids(reading.question, answer))
        if tokens not in places:
            places[tokens] = len(texts)
            texts.append(answer)
        greedy.append(places[tokens])
    return list(places), tuple(texts), tuple(greedy)
