"""`ragdro diagnose`: a trained pair with its reading changed, and how sure its lists are.

In: a run or an exported folder, and questions. Out: means, and a file with a record a question
(RUN/diagnosis.json), which the report shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.errors import ConfigError
from ragdro.evaluation.diagnosis import ceiling, faults, mean
from ragdro.evaluation.evaluate import evaluate
from ragdro.files import write_atomically
from ragdro.runs.load import over_corpus
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.runs.stages import VANILLA, checkpoint_of, config_of
from ragdro.runs.taught import searched_at
from ragdro.selection.rerank import Reranking, rerank
from ragdro.system import Rag
from ragdro.training.evaluate import spaced
from ragdro.training.limits import cut_fractions
from ragdro.training.probes import probe, summary
from ragdro.types import Prediction

DIAGNOSIS = "diagnosis.json"
_LISTS = 64


def diagnose_run(
    run: Path,
    data: str | None = None,
    stage: str = "best",
    questions: int | None = None,
    corpus: str | None = None,
) -> dict[str, Any]:
    """Means, and `records` question by question, of a stage on `data` (None: what the run reports on), at
    most `questions` of them at equal distances.

    Writes RUN/diagnosis.json where nothing but the number of questions differs from what the run reports.
    Raises `ConfigError` where there is no question.
    """
    checkpoint = checkpoint_of(run, stage)
    config = searched_at(config_of(run), run, checkpoint)
    source = data or config.data.test or config.data.validation
    searched = config if corpus is None else over_corpus(config, corpus)
    tasks = load_tasks(searched, source)
    if data is None:
        tasks = tasks[: config.evaluation.questions]
    if not tasks:
        raise ConfigError(f"{source}: has no questions to diagnose")
    tasks = spaced(tasks, questions or len(tasks))
    rag = build_rag(searched, checkpoint)
    rag.selects = rag.selects and stage != VANILLA
    predictions = rag.predict(tasks)
    records, probed = [evaluate(p) for p in predictions], probe(rag, predictions, config.seed)
    included = _included(rag, predictions, config)
    result = {
        "data": source,
        "split": _split(config, data),
        "stage": stage,
        "questions": len(tasks),
        "exact_match": mean([r["exact_match"] for r in records]),
        "ceiling": ceiling(records),
        "k_precision": mean([r["k_precision"] for r in records]),
        "faults": [
            {
                "label": f.label,
                **{k: getattr(f, k) for k in ("read_right", "read_wrong", "unread_right", "unread_wrong")},
                "context_use": f.context_use,
                "right_unread": f.right_unread,
            }
            for f in faults(records)
        ],
        "cut": cut_fractions(rag, tasks),
        "probes": summary(probed),
        "records": [{**p, **i} for p, i in zip(probed, included, strict=True)],
    }
    if data is None and corpus is None and stage == "best":
        write_atomically(run / DIAGNOSIS, json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    return result


def _split(config: Config, data: str | None) -> str:
    if data is not None:
        return "given"
    return "validation" if config.data.test is None else "test"


def _included(rag: Rag, predictions: list[Prediction], config: Config) -> list[dict[str, Any]]:
    """For each prediction the probability of each selected passage to be in the list at all, with its
    standard error (0: exact); nothing where no list is written, in several rounds, or of more candidates
    than are read at once."""
    inclusions: list[dict[str, Any]] = [{"inclusion": None, "inclusion_error": None} for _ in predictions]
    asked = [
        i
        for i, p in enumerate(predictions)
        if p.selection.probabilities is not None
        and not rag.selector.independent
        and p.selection.path is None
        and len(p.task.candidates.passages) <= config.top_n
    ]
    rankings = rerank(rag.selector, [predictions[i].task for i in asked], _LISTS, config.seed, rag.max_tokens)
    for i, ranking in zip(asked, rankings, strict=True):
        inclusions[i] = _of_selected(ranking, predictions[i])
    return inclusions


def _of_selected(ranking: Reranking, prediction: Prediction) -> dict[str, Any]:
    by_index = {ranked.index: ranked for ranked in ranking.passages}
    chosen = [by_index[i] for i in prediction.selection.permutation]
    return {
        "inclusion": [ranked.inclusion for ranked in chosen],
        "inclusion_error": [ranked.inclusion_error for ranked in chosen],
    }
