"""What a trained pair does when its reading is changed: noise, order, no passages, the gold ones alone.

In: a system and questions with candidates and answers. Out: one record a question, and their means. Asks the
generator once more for each probe; everything else follows from predictions (`ragdro.evaluation.diagnosis`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ragdro.evaluation.metrics import exact_match
from ragdro.evaluation.ranking import contains_answer
from ragdro.generation.reading import Reading
from ragdro.system import Rag
from ragdro.types import Passage, Permutation, Prediction

Probe: TypeAlias = Callable[[Prediction, Permutation, np.random.Generator], "tuple[Passage, ...] | None"]
"""What is read in place of the selection; None where the probe does not apply to the question."""
_STREAM = 11


def closed_book(prediction: Prediction, read: Permutation, rng: np.random.Generator) -> tuple[Passage, ...]:
    """Nothing: what the model knows by itself."""
    return ()


def reversed_order(
    prediction: Prediction, read: Permutation, rng: np.random.Generator
) -> tuple[Passage, ...] | None:
    """The same passages from behind."""
    passages = prediction.task.candidates.passages
    return tuple(passages[i] for i in reversed(read)) if len(read) > 1 else None


def one_wrong_passage(
    prediction: Prediction, read: Permutation, rng: np.random.Generator
) -> tuple[Passage, ...] | None:
    """The same passages and a candidate that was not selected, is not gold and holds no gold answer, at a
    random place."""
    question, passages = prediction.task.question, prediction.task.candidates.passages
    gold = {passage.content for passage in question.gold_passages}
    wrong = [
        passage
        for i, passage in enumerate(passages)
        if i not in read
        and passage.content not in gold
        and not contains_answer(passage.text, question.answers)
    ]
    if not wrong:
        return None
    noisy = [passages[i] for i in read]
    noisy.insert(int(rng.integers(len(noisy) + 1)), wrong[int(rng.integers(len(wrong)))])
    return tuple(noisy)


def gold_alone(
    prediction: Prediction, read: Permutation, rng: np.random.Generator
) -> tuple[Passage, ...] | None:
    """The gold passages, in their order: what a perfect selector would have read."""
    return prediction.task.question.gold_passages or None


PROBES: dict[str, Probe] = {
    "closed_book": closed_book,
    "reversed_order": reversed_order,
    "one_wrong_passage": one_wrong_passage,
    "gold_alone": gold_alone,
}


def probe(rag: Rag, predictions: Sequence[Prediction], seed: int) -> list[dict[str, Any]]:
    """For each prediction the answer and its exact match under every probe, None where one does not apply."""
    readings: list[Reading] = []
    places: list[tuple[int, str]] = []
    for i, prediction in enumerate(predictions):
        rng = np.random.default_rng([seed, _STREAM, i])
        read = rag.generator.ordered(prediction.selection.permutation, prediction.selection.path)
        for name, make in PROBES.items():
            passages = make(prediction, read, rng)
            if passages is not None:
                readings.append(Reading(prediction.task.question, passages))
                places.append((i, name))
    records: list[dict[str, Any]] = [
        {
            "id": p.task.question.id,
            "as_read": exact_match(p.answer, p.task.question.answers),
            **dict.fromkeys(PROBES),
        }
        for p in predictions
    ]
    answers = rag.generator.answer_many(readings, rag.max_tokens)
    for (i, name), answer in zip(places, answers, strict=True):
        gold = predictions[i].task.question.answers
        records[i][name] = {"answer": answer, "exact_match": exact_match(answer, gold)}
        records[i][name]["same"] = float(exact_match(answer, [predictions[i].answer or ""]))
    return records


def summary(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """For each probe, of the questions that it applies to: how many, exact match as read and under it, and
    which fraction changed from right to wrong, from wrong to right, and keeps its answer."""
    return {name: _of_one([r for r in records if r[name] is not None], name) for name in PROBES}


def _of_one(records: Sequence[dict[str, Any]], name: str) -> dict[str, float | int | None]:
    pairs = [(r["as_read"], r[name]["exact_match"], r[name]["same"]) for r in records]

    def fraction(values: Sequence[float]) -> float | None:
        return sum(values) / len(values) if values else None

    return {
        "questions": len(pairs),
        "as_read": fraction([before for before, _, _ in pairs]),
        "exact_match": fraction([after for _, after, _ in pairs]),
        "spoilt": fraction([float(before > after) for before, after, _ in pairs]),
        "put_right": fraction([float(before < after) for before, after, _ in pairs]),
        "same_answer": fraction([same for _, _, same in pairs]),
    }
