"""How a question was asked and read, as a record: what predictions on disk, JSON answers and reports hold."""

from __future__ import annotations

from typing import Any

from ragdro.types import Candidates, Prediction


def path_record(prediction: Prediction) -> list[dict[str, Any]]:
    """Each round's query, what it found (places among all candidates, from 1; titles, or ids where there is
    none; the scores of that query), which of it was selected, and the log-probabilities (nats; None of a
    question that asks itself; of one that is asked once, which has one round, of the list too)."""
    path, candidates = prediction.selection.path, prediction.task.candidates
    if path is None:
        return [
            {
                "query": prediction.task.question.question,
                "found": list(range(1, len(candidates.passages) + 1)),
                **_found(candidates),
                "selected": [i + 1 for i in prediction.selection.permutation],
                "log_query": None,
                "log_list": None,
            }
        ]
    places = {passage.id: i for i, passage in enumerate(candidates.passages, start=1)}
    return [
        {
            "query": one.query,
            "found": [places[passage.id] for passage in one.candidates.passages],
            **_found(one.candidates),
            "selected": [places[passage.id] for passage in one.read],
            "log_query": one.log_query if one.tokens or number > 1 else None,
            "log_list": one.log_list,
        }
        for number, one in enumerate(path.rounds, start=1)
    ]


def thought_record(prediction: Prediction) -> dict[str, str]:
    """What was written before the answer, where a thought comes first."""
    return {} if prediction.thought is None else {"thought": prediction.thought.text}


def _found(candidates: Candidates) -> dict[str, Any]:
    titles = [passage.title or passage.id for passage in candidates.passages]
    return {"titles": titles, "scores": None if candidates.scores is None else list(candidates.scores)}
