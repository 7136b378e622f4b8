"""From predictions to metrics: one record a question, and their means.

In: `Prediction`s of questions with gold answers. Out: records (what `predictions-<stage>.jsonl` holds) and
`summarise`d fractions of 1. A metric that does not apply to any question is None, never a made-up number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ragdro.config.plugins import load_object
from ragdro.errors import ConfigError
from ragdro.evaluation.answering import distribution_record
from ragdro.evaluation.diagnosis import k_precision, mean
from ragdro.evaluation.metrics import exact_match, f1
from ragdro.evaluation.paths import path_record, thought_record
from ragdro.evaluation.ranking import first_hit, full_recall, recall_at_k
from ragdro.types import Prediction

METRICS = ("exact_match", "f1", "recall_at_1", "recall_at_3", "recall_at_5", "full_recall")
_CUTS = (1, 3, 5)


Metric: TypeAlias = Callable[[str, Sequence[str]], float]
"""From an answer and the gold answers to a number."""


def own_metrics(paths: Sequence[str]) -> dict[str, Metric]:
    """Metrics of a user's package by their import paths (`evaluation.metrics`).

    Raises `ConfigError` for one that is not there or cannot be called.
    """
    metrics = {path: load_object(path, "evaluation.metrics") for path in paths}
    for path, metric in metrics.items():
        if not callable(metric):
            raise ConfigError(f"evaluation.metrics: {path} is no function of an answer and the gold answers")
    return metrics


def evaluate(prediction: Prediction, own: Mapping[str, Metric] | None = None) -> dict[str, Any]:
    """One question's record: what was answered from which passages, and every metric of it, `own` ones too.

    recall_at_k looks at the first k *selected* passages; it is None where fewer than k are ever selected.
    A selector that stopped early, or had fewer candidates, has selected what it has. Besides there is what
    `ragdro.evaluation.diagnosis` looks at: whether what was read, and the candidates, hold what is needed.
    """
    question, selected = prediction.task.question, prediction.selected
    candidates = prediction.task.candidates.passages
    answer_read = first_hit(selected, question.answers) is not None
    probabilities, most = prediction.selection.probabilities, prediction.selection.most or len(selected)
    return {
        "id": question.id,
        "question": question.question,
        "answer": prediction.answer,
        "answers": list(question.answers),
        "exact_match": exact_match(prediction.answer, question.answers),
        "f1": f1(prediction.answer, question.answers),
        **{path: float(metric(prediction.answer, question.answers)) for path, metric in (own or {}).items()},
        **{
            f"recall_at_{k}": recall_at_k(selected, question.answers, k) if k <= most else None for k in _CUTS
        },
        "full_recall": full_recall(selected, question.gold_passages),
        "answer_read": float(answer_read),
        "answer_in_candidates": float(answer_read or first_hit(candidates, question.answers) is not None),
        "gold_in_candidates": full_recall(candidates, question.gold_passages),
        "k_precision": k_precision(prediction.answer, selected),
        "hops": question.hops,
        **distribution_record(prediction),
        **_path_record(prediction),
        **thought_record(prediction),
        "probability_of": prediction.selection.probability_of,
        "selection": [
            {
                "id": passage.id,
                "title": passage.title,
                "text": passage.text,
                "probability": None if probabilities is None else probabilities[place],
                "rank_in_candidates": prediction.selection.permutation[place] + 1,
            }
            for place, passage in enumerate(selected)
        ],
    }


def _path_record(prediction: Prediction) -> dict[str, Any]:
    """Of a question that may be asked more than once: how many searches found something, and its rounds."""
    if prediction.selection.path is None:
        return {}
    rounds = path_record(prediction)
    return {"retrievals": float(sum(bool(one["found"]) for one in rounds)), "path": rounds}


def summarise(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every metric over the records that it applies to, and how many `questions` there are.

    A metric of one's own is one whose name has a colon.
    """
    rounds = ("retrievals",) if records and "retrievals" in records[0] else ()
    names = [*METRICS, *rounds, *(key for key in (records[0] if records else ()) if ":" in key)]
    return {**{name: mean([r[name] for r in records]) for name in names}, "questions": len(records)}


def by_hops(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`summarise` for each number of hops, where the data says it."""
    hops = sorted({r["hops"] for r in records if r["hops"] is not None})
    return {str(h): summarise([r for r in records if r["hops"] == h]) for h in hops}
