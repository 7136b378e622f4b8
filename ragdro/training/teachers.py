"""Whose lists the warm-up teaches: an order of all candidates of a question.

In: questions with candidates. Out: for each an order of its candidates, best first. 'gold', 'distant' and the
data's own ranking need nothing else. 'query-likelihood' orders by log p(question | passage) under the
generator before it is trained; 'fused' is the reciprocal-rank fusion of the retriever's order, of that one
and, where there is an encoder, of a bi-encoder's. These two need no labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ragdro.config import WarmUp
from ragdro.config.retriever import DenseSettings, HybridSettings
from ragdro.errors import ConfigError
from ragdro.evaluation.ranking import contains_answer
from ragdro.generation.generator import Generator
from ragdro.generation.query_likelihood import query_log_likelihoods
from ragdro.parallel.world import map_sharded
from ragdro.retrieval.hybrid import fuse
from ragdro.types import Candidates, Passage, Permutation, Task

Orders = Mapping[str, Permutation]
"""A teacher's order of all candidates, by question id."""


def model_orders(
    generator: Generator, tasks: Sequence[Task], settings: WarmUp, max_tokens: int
) -> list[Permutation]:
    """Each question's candidates as 'query-likelihood' or 'fused' orders them (see the module)."""

    def likelihoods(part: Sequence[Task]) -> list[list[float]]:
        return query_log_likelihoods(generator, part, max_tokens)

    by_likelihood = [_descending(scores) for scores in map_sharded(tasks, likelihoods)]
    if settings.teacher == "query-likelihood":
        return by_likelihood
    orders = [[tuple(range(len(order))), order] for order in by_likelihood]
    if settings.encoder is not None:
        for of_question, order in zip(orders, encoder_orders(settings.encoder, tasks), strict=True):
            of_question.append(order)
    return [fused(of_question) for of_question in orders]


def fused(orders: Sequence[Permutation]) -> Permutation:
    """The reciprocal-rank fusion of several orders of the same candidates; ties go by the first one."""
    rankings = [Candidates("", tuple(Passage(str(i), "", "") for i in order)) for order in orders]
    best = fuse(
        rankings, [1.0] * len(orders), HybridSettings.model_fields["constant"].default, len(orders[0])
    )
    return tuple(int(passage.id) for passage in best.passages)


def encoder_orders(model: str, tasks: Sequence[Task]) -> list[Permutation]:
    """Each question's candidates by their similarity to it under the bi-encoder `model`. Raises
    `RetrievalError` for one that cannot be loaded."""
    from ragdro.retrieval.encoders import load_bi_encoder, passage_text  # heavy, and seldom asked for

    encoder = load_bi_encoder(DenseSettings(model=model))
    passages = list(dict.fromkeys(passage_text(p) for t in tasks for p in t.candidates.passages))
    vectors = encoder.encode_document(passages, normalize_embeddings=True, show_progress_bar=False)
    places = {text: i for i, text in enumerate(passages)}
    asked = encoder.encode_query(
        [t.question.question for t in tasks], normalize_embeddings=True, show_progress_bar=False
    )
    orders = []
    for task, question in zip(tasks, np.asarray(asked), strict=True):
        rows = [places[passage_text(p)] for p in task.candidates.passages]
        orders.append(_descending((np.asarray(vectors)[rows] @ question).tolist()))
    return orders


def teacher_permutation(
    task: Task, k: int, teacher: str = "auto", *, stop: bool = False, order: Permutation | None = None
) -> Permutation:
    """The K candidates that the teacher puts first (all, where there are fewer); `teacher` is
    `warm_up.teacher`, `order` what a model among the teachers says (`model_orders`). With `stop`, as many of
    them as it names, one at least: those that it ranks, that are gold, or that hold an answer.

    Raises `ConfigError` for a question without gold passages where the gold ones are the teacher.
    """
    passages = task.candidates.passages
    if order is not None:
        return order[:k]
    if teacher == "gold":
        gold = {passage.content: rank for rank, passage in enumerate(task.question.gold_passages)}
        if not gold:
            raise ConfigError(f"warm_up.teacher: question '{task.question.id}' has no passages labelled gold")
        ranks = [gold.get(p.content, len(gold)) for p in passages]
        named = sum(rank < len(gold) for rank in ranks)
    elif teacher == "auto" and task.question.ranking is not None:
        place = {passage_id: rank for rank, passage_id in enumerate(task.question.ranking)}
        ranks = [place.get(p.id, len(place)) for p in passages]
        named = sum(rank < len(place) for rank in ranks)
    else:
        ranks = [int(not contains_answer(p.text, task.question.answers)) for p in passages]
        named = ranks.count(0)
    ranked = sorted(range(len(passages)), key=lambda i: ranks[i])
    return tuple(ranked[: min(k, max(1, named)) if stop else k])


def tied_lists(task: Task, k: int, teacher: str) -> list[Permutation]:
    """What a pointer is taught where the teacher names passages without ranking them (those that are gold, or
    hold an answer): K of them at most, in as many orders, so that each is first once. Scores cannot be taught
    by a list whose end is the retriever's order without being taught that."""
    named = teacher_permutation(task, k, teacher, stop=True)
    return [named[i:] + named[:i] for i in range(len(named))]


def _descending(scores: Sequence[float]) -> Permutation:
    """Places by their score, the highest first; equal ones keep their order."""
    return tuple(sorted(range(len(scores)), key=lambda i: -scores[i]))
