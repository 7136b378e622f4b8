"""Weighted permutations as JSON: what an E-step's shard leaves for a run that resumes.

In: `WeightedTask`s. Out: a JSON value, and from it the same `WeightedTask`s to the last bit (JSON writes
the shortest digits that read back as the same float). Of a question that is asked more than once it has the
passages that its own candidates have not, and the rounds of each path; where a thought comes before the
answer, the thought of each sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from operator import attrgetter
from typing import Any

from ragdro.errors import TrainingError
from ragdro.types import (
    Candidates,
    Passage,
    PassageSource,
    QuestionPath,
    RejectedAnswer,
    Round,
    Task,
    Thought,
    WeightedSample,
    WeightedTask,
)

_sample = attrgetter(*(name for name in WeightedSample.__slots__ if name not in ("path", "thought")))
_rejected = attrgetter(*RejectedAnswer.__slots__)
_LOGARITHMS = ("log_query", "log_query_proposal", "log_list", "log_list_proposal")


def encode(weighted: Sequence[WeightedTask]) -> list[dict[str, Any]]:
    """One object a question."""
    return [
        {
            "id": w.task.question.id,
            "samples": [_sample(s) for s in w.samples],
            "bound": w.bound,
            "effective_sample_size": w.effective_sample_size,
            "impossible": w.impossible,
            "drawn": w.drawn,
            "rejected": None if w.rejected is None else _rejected(w.rejected),
            **_encoded_paths(w),
            **_encoded_thoughts(w),
        }
        for w in weighted
    ]


def decode(values: Sequence[dict[str, Any]], tasks: Sequence[Task]) -> list[WeightedTask]:
    """The inverse, for the same questions. Raises `TrainingError` where they are others."""
    if [v["id"] for v in values] != [t.question.id for t in tasks]:
        raise TrainingError("the saved permutations are of other questions; start again with overwrite=True")
    return [_decoded(value, task) for value, task in zip(values, tasks, strict=True)]


def _decoded(value: dict[str, Any], task: Task) -> WeightedTask:
    whole, paths = _decoded_paths(value, task)
    thoughts = value.get("thoughts") or [None] * len(paths)
    return WeightedTask(
        whole,
        tuple(
            replace(WeightedSample(tuple(z), *numbers), path=path, thought=_thought(thought))
            for (z, *numbers), path, thought in zip(value["samples"], paths, thoughts, strict=True)
        ),
        value["bound"],
        value["effective_sample_size"],
        value["impossible"],
        tuple(value["drawn"]),
        None if value["rejected"] is None else RejectedAnswer(*value["rejected"]),
    )


def _encoded_thoughts(weighted: WeightedTask) -> dict[str, Any]:
    """Each sample's thought; nothing where there are none."""
    thoughts = [s.thought for s in weighted.samples if s.thought is not None]
    return {"thoughts": [astuple(thought) for thought in thoughts]} if thoughts else {}


def _thought(values: Sequence[Any] | None) -> Thought | None:
    if values is None:
        return None
    text, tokens, log_q, log_p = values
    return Thought(text, tuple(tokens), log_q, log_p)


def _encoded_paths(weighted: WeightedTask) -> dict[str, Any]:
    """The rounds of all paths and the passages found in them, but for those of the first round where the
    question asked itself, which it has; nothing where there are no paths."""
    paths = [s.path for s in weighted.samples if s.path is not None]
    if not paths:
        return {}
    passages = weighted.task.candidates.passages
    places = {passage.id: i for i, passage in enumerate(passages)}
    first = paths[0].rounds[0]
    own = 0 if first.tokens else len(first.candidates.passages)
    return {
        "found": [astuple(passage) for passage in passages[own:]],
        "paths": [[_encoded_round(one, places) for one in path.rounds] for path in paths],
    }


def _encoded_round(one: Round, places: dict[str, int]) -> dict[str, Any]:
    return {
        "query": one.query,
        "tokens": one.tokens,
        "candidates": [places[passage.id] for passage in one.candidates.passages],
        "scores": one.candidates.scores,
        "permutation": one.permutation,
        **{name: getattr(one, name) for name in _LOGARITHMS},
        **({} if one.finalists is None else {"finalists": one.finalists}),
    }


def _decoded_paths(value: dict[str, Any], task: Task) -> tuple[Task, list[QuestionPath | None]]:
    if "paths" not in value:
        return task, [None] * len(value["samples"])
    written = bool(value["paths"][0][0]["tokens"])
    passages = (*(() if written else task.candidates.passages), *map(_passage, value["found"]))
    paths = [QuestionPath(tuple(_round(one, task, passages) for one in rounds)) for rounds in value["paths"]]
    return Task(task.question, Candidates(task.question.id, passages)), list(paths)


def _round(value: dict[str, Any], task: Task, path_passages: Sequence[Passage]) -> Round:
    scores = None if value["scores"] is None else tuple(value["scores"])
    passages = tuple(path_passages[i] for i in value["candidates"])
    return Round(
        value["query"],
        tuple(value["tokens"]),
        Candidates(task.question.id, passages, scores),
        tuple(value["permutation"]),
        **{name: value[name] for name in _LOGARITHMS},
        finalists=tuple(value["finalists"]) if "finalists" in value else None,
    )


def _passage(values: Sequence[Any]) -> Passage:
    name, title, text, gold, source = values
    return Passage(name, title, text, gold, None if source is None else PassageSource(*source))
