"""What is asked of the models, and the work itself: batches of jobs in, their results out.

In: a `Rag` and jobs of two kinds. Out: for each job its result, or the error that is its own fault. Runs in
one of the threads that compute with the models (`ragdro.serve.lanes`). Retrieval, selection and answering
each take all jobs of a batch together, in forward passes under the system's token budget.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np

from ragdro.config.answering import Answering
from ragdro.errors import ConfigError, RagdroError
from ragdro.evaluation.metrics import normalise
from ragdro.generation.reading import Reading
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.selection import tournament
from ragdro.selection.rerank import Reranking, rerank
from ragdro.selection.tournament import RankedCandidate
from ragdro.system import Rag, reading
from ragdro.types import Candidates, Passage, Permutation, Prediction, Question, Task


@dataclass(frozen=True, slots=True)
class RerankJob:
    """Order `passages` by their use for the question, cut to `passage_tokens` (None: to the system's own)."""

    question: str
    passages: tuple[Passage, ...]
    passage_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Reranked:
    """The order, and how many `tokens` the query and the passages have, as they are read."""

    order: list[RankedCandidate]
    tokens: int


@dataclass(frozen=True, slots=True)
class AnswerJob:
    """Answer a question from `passages` (None: from what the retriever finds). `samples`: how many lists are
    drawn to see whether the answer depends on the list (0: none). `scored`: with its log-probability.
    `included`: with each candidate's probability of being in the list. `stage`: None for the server's own.
    `answering`: None as the system does; a marginal answer has its agreement without `samples`."""

    question: str
    passages: tuple[Passage, ...] | None = None
    samples: int = 0
    scored: bool = False
    included: bool = False
    stage: str | None = None
    answering: Answering | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """`log_probability` of the answer given the selected passages and the thought about them (nats);
    `agreement`: the fraction of `samples` drawn lists that lead to the same answer (normalised as the metric
    does); each None where it was not asked for. `ranked`: the candidates with their probability of being in
    the list, None where there is no list to be in. `prompt_tokens`, `answer_tokens`: what the generator read
    and wrote."""

    prediction: Prediction
    prompt_tokens: int
    answer_tokens: int
    log_probability: float | None = None
    agreement: float | None = None
    ranked: Reranking | None = None


Job: TypeAlias = RerankJob | AnswerJob
Result: TypeAlias = Reranked | Answered
_RETRIEVING = threading.Lock()
"""Retrievers are not made for several threads."""
_I = TypeVar("_I")
_T = TypeVar("_T")


def work(rags: Mapping[str | None, Rag], jobs: Sequence[Job], samples: int) -> list[Result | RagdroError]:
    """The result of every job; what a job cannot have is its own error and spoils no other's result.

    `rags`: the systems by stage; that of None reranks, and answers jobs that name no stage.
    """
    results: dict[int, Result | RagdroError] = {}
    stages = [job.stage if isinstance(job, AnswerJob) else None for job in jobs]
    for stage in dict.fromkeys(stages):
        places = [i for i, own in enumerate(stages) if own == stage]
        results_of_stage = _work(rags[stage], [jobs[i] for i in places], samples)
        results.update(zip(places, results_of_stage, strict=True))
    return [results[i] for i in range(len(jobs))]


def _work(rag: Rag, jobs: Sequence[Job], samples: int) -> list[Result | RagdroError]:
    results: dict[int, Result | RagdroError] = {}
    tasks: dict[int, Task] = {}
    bare: dict[int, Question] = {}
    for i, job in enumerate(jobs):
        question = Question(f"request-{i}", job.question, ())
        if job.passages is None:
            bare[i] = question
        else:
            tasks[i] = Task(question, Candidates(question.id, job.passages), given=True)
    with _RETRIEVING:
        candidates = _each(list(bare.values()), rag.retrieved)
    for i, retrieved in zip(bare, candidates, strict=True):
        if isinstance(retrieved, RagdroError):
            results[i] = retrieved
        else:
            tasks[i] = retrieved
    to_rerank = [(i, tasks[i], job) for i, job in enumerate(jobs) if isinstance(job, RerankJob)]
    orders = _each(to_rerank, lambda some: _rerank(rag, [(t, j) for _, t, j in some], samples))
    results.update(zip([i for i, _, _ in to_rerank], orders, strict=True))
    to_answer = [(i, tasks[i], j) for i, j in enumerate(jobs) if isinstance(j, AnswerJob) and i in tasks]
    answers = _each(to_answer, lambda some: _answer(rag, [(t, j) for _, t, j in some], samples))
    results.update(zip([i for i, _, _ in to_answer], answers, strict=True))
    return [results[i] for i in range(len(jobs))]


def _each(
    items: Sequence[_I], together: Callable[[Sequence[_I]], Sequence[_T]]
) -> Sequence[_T | RagdroError]:
    """All items at once; each alone where one of them is at fault."""
    if not items:
        return []
    try:
        return together(items)
    except RagdroError as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in _each([item], together)]


def _rerank(rag: Rag, asked: Sequence[tuple[Task, RerankJob]], samples: int) -> list[Reranked]:
    if not rag.selects:
        raise ConfigError("this system selects nothing (objective: sft, or stage: vanilla): it cannot rerank")
    selector, tasks = rag.selector, [_cut(rag, task, job.passage_tokens) for task, job in asked]
    orders = tournament.order(selector, tasks, samples=samples, seed=0, max_tokens=rag.max_tokens)
    return [Reranked(order, _tokens(rag, task)) for order, task in zip(orders, tasks, strict=True)]


def _cut(rag: Rag, task: Task, limit: int | None) -> Task:
    if limit is None:
        return task
    cut = rag.selector.model.tokenizer.cut
    passages = tuple(replace(p, text=cut(p.text, limit)) for p in task.candidates.passages)
    return replace(task, candidates=replace(task.candidates, passages=passages))


def _tokens(rag: Rag, task: Task) -> int:
    length, budget = rag.selector.model.tokenizer.length, rag.selector.budget
    passages = (length(p.title) + length(p.text) for p in task.candidates.passages)
    read = sum(min(tokens, budget.passage_tokens) for tokens in passages)
    return min(length(task.question.question), budget.question_tokens) + read


def _answer(rag: Rag, asked: Sequence[tuple[Task, AnswerJob]], samples: int) -> list[Answered]:
    predictions, generator = _predict(rag, asked), rag.generator
    jobs = [job for _, job in asked]
    reads = [
        reading(p.task, generator.ordered(p.selection.permutation, p.selection.path), p.thought)
        for p in predictions
    ]
    scored = [place for place, job in enumerate(jobs) if job.scored and not predictions[place].abstained]
    log_p = dict(zip(scored, _log_probabilities(rag, [(reads[i], predictions[i].answer) for i in scored])))
    agreement = _agreements(
        rag,
        predictions,
        [0 if p.distribution else job.samples for p, job in zip(predictions, jobs, strict=True)],
    )
    to_rank = [
        (place, task)
        for place, (task, job) in enumerate(asked)
        if job.included and predictions[place].selection.path is None
    ]
    ranked = _ranked(rag, to_rank, samples)
    answered = []
    for place, (read, prediction) in enumerate(zip(reads, predictions, strict=True)):
        thought = 0 if prediction.thought is None else len(prediction.thought.tokens)
        written = thought + generator.model.tokenizer.length(prediction.answer)
        tokens = len(generator.prompt(read)), written
        distribution = prediction.distribution
        agrees = agreement.get(place) if distribution is None else distribution.answers[0].agreement
        answered.append(Answered(prediction, *tokens, log_p.get(place), agrees, ranked.get(place)))
    return answered


def _log_probabilities(rag: Rag, answers: Sequence[tuple[Reading, str]]) -> list[float]:
    """log p(y|x,d_z) of each answer (nats)."""
    groups = [SequenceGroup.of([rag.generator.scored(read, answer)]) for read, answer in answers]
    return [scores[0] for scores in score_all(rag.generator.model, groups, rag.max_tokens)]


def _predict(rag: Rag, asked: Sequence[tuple[Task, AnswerJob]]) -> list[Prediction]:
    """Those that are answered the same way together."""
    ways: dict[str, list[int]] = {}
    hows = [rag.answering if job.answering is None else job.answering for _, job in asked]
    for i, how in enumerate(hows):
        ways.setdefault(how.model_dump_json(), []).append(i)
    predictions: dict[int, Prediction] = {}
    for places in ways.values():
        tasks, how = [asked[i][0] for i in places], hows[places[0]]
        predictions.update(zip(places, rag.predict(tasks, answering=how), strict=True))
    return [predictions[i] for i in range(len(asked))]


def _agreements(rag: Rag, predictions: Sequence[Prediction], samples: Sequence[int]) -> dict[int, float]:
    """By a prediction's place, the fraction of drawn lists whose answer is its own; of those for which lists
    are wanted and can be drawn: not where a path was walked, which is several lists."""
    selector, drawn = rag.selector, dict[int, Counter[Permutation]]()
    for size in sorted(set(samples) - {0}) if rag.selects else ():
        places = [
            i
            for i, (count, p) in enumerate(zip(samples, predictions, strict=True))
            if count == size and p.selection.path is None and len(p.task.candidates.passages) <= selector.n
        ]
        uniforms = np.random.default_rng(0).random((size, selector.choices_per_list))
        tasks = [predictions[i].task for i in places]
        lists = selector.sample(tasks, [uniforms] * len(tasks), temperature=1.0, max_tokens=rag.max_tokens)
        for i, draws in zip(places, lists, strict=True):
            drawn[i] = Counter(rag.generator.ordered(draw.permutation) for draw in draws)
    read = [(i, z) for i, counts in drawn.items() for z in counts]
    readings = [reading(predictions[i].task, z) for i, z in read]
    fractions = dict.fromkeys(drawn, 0.0)
    for (i, z), answer in zip(read, rag.generator.answer_many(readings, rag.max_tokens), strict=True):
        if normalise(answer) == normalise(predictions[i].answer):
            fractions[i] += drawn[i][z] / samples[i]
    return fractions


def _ranked(rag: Rag, asked: Sequence[tuple[int, Task]], samples: int) -> dict[int, Reranking]:
    """By a task's place, its candidates' probabilities of being in the list; none where nothing is selected
    as a list, or in more rounds than one."""
    if not rag.selects or rag.selector.independent:
        return {}
    most = rag.selector.n
    once = [(i, task) for i, task in asked if len(task.candidates.passages) <= most]
    rankings = rerank(rag.selector, [task for _, task in once], samples, seed=0, max_tokens=rag.max_tokens)
    return {i: ranked for (i, _), ranked in zip(once, rankings, strict=True)}
