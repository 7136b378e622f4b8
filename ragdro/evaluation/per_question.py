"""Per-question metrics of paired gold records and predictions: those of any data, and the official ones."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ragdro.data.record import Record
from ragdro.data.twowiki import Aliases
from ragdro.evaluation import official
from ragdro.evaluation.metrics import Normalisation, Rule, accuracy, exact_match, f1, overlap, rouge_l
from ragdro.evaluation.predictions import Answered, PredictionFile
from ragdro.evaluation.ranking import first_hit, full_recall, ranking_measures, support_scores
from ragdro.types import Passage, Question

_log = logging.getLogger(__name__)
SELECTION_DEPTHS = (1, 3, 5)
RETRIEVER_DEPTHS = (1, 3, 5, 20)


@dataclass(frozen=True, slots=True)
class Pair:
    """One gold record with what was answered to it (None: the predictions lack it)."""

    record: Record
    question: Question
    answered: Answered | None


def _key(pair: Pair, index: int, repeated: bool) -> str:
    return f"{pair.question.id}#{index}" if repeated else pair.question.id


def common_metrics(
    pairs: Sequence[Pair], normalisation: Normalisation, rule: Rule
) -> dict[str, dict[str, float]]:
    """Figure → question id → value, for the metrics that any data has. MuSiQue's unanswerable instances
    have no answer to score and are left out."""
    metrics: dict[str, dict[str, float]] = {}
    repeated = len({pair.question.id for pair in pairs}) < len(pairs)
    keyed = {
        _key(pair, index, repeated): pair
        for index, pair in enumerate(pairs)
        if not (pair.record.has("answerable") and pair.record.flag("answerable") is False)
    }
    longest_selection = max((len(_selection(pair) or ()) for pair in keyed.values()), default=0)
    most_candidates = max((len(_candidates(pair)) for pair in keyed.values()), default=0)
    for key, pair in keyed.items():
        for name, value in _answer_metrics(pair, normalisation, rule).items():
            metrics.setdefault(name, {})[key] = value
        for name, value in _selection_metrics(pair, longest_selection, most_candidates).items():
            metrics.setdefault(name, {})[key] = value
    for name, values in _ranking_metrics(keyed).items():
        metrics[name] = values
    return metrics


def _answer_metrics(pair: Pair, normalisation: Normalisation, rule: Rule) -> dict[str, float]:
    if pair.answered is None or pair.answered.answer is None:
        return dict.fromkeys(("exact_match", "f1", "accuracy", "rouge_l"), 0.0)
    said = pair.answered.answer
    golds = (
        official.musique_answers(pair.record) if rule == "musique" and pair.record.has("paragraphs") else None
    )
    golds = golds or pair.question.answers
    return {
        "exact_match": exact_match(said, golds, normalisation=normalisation, rule=rule),
        "f1": f1(said, golds, normalisation=normalisation, rule=rule),
        "accuracy": accuracy(said, golds, normalisation=normalisation, rule=rule),
        "rouge_l": rouge_l(said, pair.question.answers),
    }


def _selection(pair: Pair) -> tuple[Passage, ...] | None:
    return None if pair.answered is None else pair.answered.selection


def _candidates(pair: Pair) -> tuple[Passage, ...]:
    """Those that came with the question, where they have texts."""
    candidates = () if pair.question.candidates is None else pair.question.candidates.passages
    return candidates if any(passage.text for passage in candidates) else ()


def _selection_metrics(pair: Pair, longest_selection: int, most_candidates: int) -> dict[str, float]:
    """`longest_selection`, `most_candidates`: the most passages that a question of the file has."""
    metrics: dict[str, float] = {}
    question, selection, candidates = pair.question, _selection(pair), _candidates(pair)
    if selection is not None:
        metrics |= _recalls("recall_at", selection, question.answers, SELECTION_DEPTHS, longest_selection)
        complete = full_recall(selection, question.gold_passages)
        support = support_scores(selection, question.gold_passages)
        if complete is not None and support is not None:
            metrics["full_recall"] = complete
            metrics["support_precision"] = support.precision
            metrics["support_recall"] = support.recall
            metrics["support_f1"] = support.f1
            metrics["joint_f1"] = _joint_f1(pair, support.precision, support.recall)
    if candidates:
        metrics |= _recalls(
            "retriever_recall_at", candidates, question.answers, RETRIEVER_DEPTHS, most_candidates
        )
    return metrics


def _joint_f1(pair: Pair, precision: float, recall: float) -> float:
    """HotpotQA's joint F1, with the selected passages in place of its supporting sentences."""
    assert pair.answered is not None
    said = pair.answered.answer or ""
    best = max((overlap(said, gold) for gold in pair.question.answers), key=lambda shared: shared.f1)
    joint_precision, joint_recall = best.precision * precision, best.recall * recall
    total = joint_precision + joint_recall
    return 2 * joint_precision * joint_recall / total if total > 0 else 0.0


def _recalls(
    name: str, passages: Sequence[Passage], answers: Sequence[str], depths: Sequence[int], longest: int
) -> dict[str, float]:
    """Recall at the depths that the longest list of the file reaches, as `evaluate` has it: a shorter one,
    which stopped early or had no more, has what it has."""
    hit = first_hit(passages[: max(depths)], answers)
    return {f"{name}_{k}": float(hit is not None and hit < k) for k in depths if k <= longest}


def _ranking_metrics(keyed: Mapping[str, Pair]) -> dict[str, dict[str, float]]:
    selections = {key: _selection(pair) for key, pair in keyed.items()}
    ranked = {key: selection for key, selection in selections.items() if selection is not None}
    gold = {key: keyed[key].question.gold_passages for key in ranked}
    if not any(gold.values()):
        return {}
    if importlib.util.find_spec("ir_measures") is None:
        _log.warning("nDCG and MAP are left out: they need `pip install 'ragdro[ranking]'`")
        return {}
    measured = ranking_measures(ranked, gold, ("nDCG@5", "AP"))
    return {"ndcg_at_5": measured["nDCG@5"], "map": measured["AP"]}


def official_metrics(
    pairs: Sequence[Pair], data_format: str, prediction_file: PredictionFile, aliases: Aliases
) -> dict[str, dict[str, float]]:
    """Figure → question id → value of the data's official script; empty where it has none."""
    with_facts = any(row.facts is not None for row in prediction_file.rows)
    with_evidence = any(row.evidence is not None for row in prediction_file.rows)
    values: dict[str, dict[str, float]] = {}
    groups: dict[str, list[tuple[Record, Answered | None]]] = {}
    for index, pair in enumerate(pairs):
        record, question, answered = pair.record, pair.question, pair.answered
        if data_format == "hotpotqa":
            scores = official.hotpotqa(record, question, answered, with_facts=with_facts)
        elif data_format == "2wikimultihopqa":
            scores = official.twowiki(
                record,
                question,
                answered,
                with_facts=with_facts,
                with_evidence=with_evidence,
                aliases=aliases,
            )
        elif data_format == "musique":
            scores = official.musique(record, answered)
            groups.setdefault(question.id, []).append((record, answered))
        elif data_format == "kilt":
            scores = official.kilt(record, question, answered)
        elif data_format == "dpr":
            scores = official.dpr(question, answered)
        else:
            return {}
        for name, value in scores.items():
            values.setdefault(name, {})[f"{question.id}#{index}"] = value
    if any(record.flag("answerable") is False for group in groups.values() for record, _ in group):
        for question_id, group in groups.items():
            for name, value in official.musique_group(group).items():
                values.setdefault(name, {})[question_id] = value
    return values
