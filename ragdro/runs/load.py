"""A trained pair, back from its run folder: what `ragdro.load`, `evaluate` and `answer` use.

In: a run folder, or one that `ragdro export` wrote. Out: the same `Rag` that was measured during training,
with a retriever behind it that is opened by the first question which needs it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.config.answering import Answering, AnsweringKind, changed
from ragdro.config.retriever import Bm25Settings, RetrieverSettings
from ragdro.errors import ConfigError, brief
from ragdro.evaluation.answering import compare_selections, compare_ways
from ragdro.evaluation.evaluate import by_hops, evaluate, own_metrics, summarise
from ragdro.files import write_atomically
from ragdro.retrieval.queries import as_find
from ragdro.runs.searching import OwnRetriever
from ragdro.runs.setup import build_rag, corruption, load_tasks
from ragdro.runs.stages import VANILLA, checkpoint_of, config_of, reading_in
from ragdro.runs.taught import searched_at
from ragdro.system import Rag, Retrieve, as_retrieve
from ragdro.training.evaluate import draw, sampled_metrics
from ragdro.types import Candidates, Question, Task


def load(
    folder: str | Path,
    *,
    stage: str = "best",
    corpus: str | None = None,
    retriever: Any = None,
    device: str | None = None,
    answering: Answering | AnsweringKind | None = None,
    passage_attention: str | None = None,
    passage_memory: float | None = None,
) -> Rag:
    """The trained system of a run, or of a folder that `ragdro export` wrote.

    `stage` is 'best', 'warm-up', 'vanilla' or 'iteration-N' (of a run). Questions are searched for in
    `corpus` (a file, a folder, a hub name), by `retriever` (one of ours that is open, an object with
    `search(queries, top_n)` as `ragdro.retrieval.custom` says, or a function from questions to candidates),
    or in what the run was trained on; none of it is opened before it is needed. `device`, `answering` (a kind
    alone keeps the config's samples, threshold and seed), `passage_attention` ('full' or 'blocks', which a
    generator trained with 'blocks-then-full' reads as well) and `passage_memory` (GiB for passages read in
    blocks, kept for later questions): None as in the config. Raises `ConfigError` for a folder that is
    neither, `ModelError` for a checkpoint that is missing.
    """
    path = Path(folder)
    config = reading_in(config_of(path), passage_attention, passage_memory)
    if device is not None:
        config = config.model_copy(update={"device": device})
    checkpoint = checkpoint_of(path, stage)
    config = searched_at(config, path, checkpoint)
    searched = config if corpus is None else over_corpus(config, corpus)
    own = OwnRetriever(searched)
    retrieve = _lazy(searched, own) if retriever is None else as_retrieve(retriever, config.top_n)
    find = own.find if retriever is None else as_find(retriever)
    rag = build_rag(config, checkpoint, retrieve, find)
    rag.selects = rag.selects and stage != VANILLA
    rag.answering = answering if isinstance(answering, Answering) else changed(config.answering, answering)
    return rag


def _lazy(config: Config, own: OwnRetriever) -> Retrieve:
    """What searches for the config's questions, by the first of them that needs it."""

    def retrieve(questions: Sequence[Question]) -> list[Candidates]:
        if config.retriever.kind == "given":
            _refuse_bare(questions)
        worse = corruption(config)
        return [worse(candidates) for candidates in own.retriever.search(questions, config.top_n)]

    return retrieve


def over_corpus(config: Config, corpus: str) -> Config:
    """The config with another corpus: a retriever that knows only the candidates of known questions, or has
    its passages in a database, becomes BM25."""
    data = config.data.model_copy(update={"corpus": corpus})
    settings: RetrieverSettings = config.retriever
    if settings.kind in ("given", "external", "postgres", "qdrant"):
        settings = Bm25Settings()
    return config.model_copy(update={"data": data, "retriever": settings})


def _refuse_bare(questions: Sequence[Question]) -> None:
    """Raises `ConfigError` for a question that brings no passages to a system that has no search."""
    bare = [q for q in questions if q.candidates is None and not q.passages]
    if bare:
        raise ConfigError(
            f"question {brief(bare[0].question)} brings no passages, and this run was trained on given ones"
            " (retriever: given): give passages, or a corpus to search in (--passages FILE, --corpus FILE)"
        )


def reported_tasks(run: Path) -> list[Task]:
    """The questions that the run reports on, with their candidates."""
    return _reported(searched_at(config_of(run), run, checkpoint_of(run, "best")))


def _reported(config: Config) -> list[Task]:
    return _tasks(config, config.data.test or config.data.validation)


def _tasks(config: Config, source: str) -> list[Task]:
    return load_tasks(config, source)[: config.evaluation.questions]


def evaluate_run(
    run: Path,
    data: str | None,
    stage: str,
    out: Path | None,
    corpus: str | None = None,
    answering: Answering | None = None,
    passage_attention: str | None = None,
    passage_memory: float | None = None,
) -> dict[str, Any]:
    """The metrics of a stage on `data` (None: as in the run, on the questions that it reports on, what
    samples say on the validation questions), with candidates from `corpus` (None: as in the run).

    `passage_attention`, `passage_memory`: as of `load`. `answering`: None as in the config. Other than
    greedy answers are measured beside those: `answering` in the result has both ways.
    """
    config = reading_in(config_of(run), passage_attention, passage_memory)
    checkpoint, algorithm, measuring = checkpoint_of(run, stage), algorithm_of(config), config.evaluation
    config = searched_at(config, run, checkpoint)
    config = config if corpus is None else over_corpus(config, corpus)
    tasks = load_tasks(config, data) if data else _reported(config)
    rag = build_rag(config, checkpoint)
    sampled: dict[str, Any] = {}
    if stage == VANILLA:
        predictions = rag.predict(tasks, select=False)
    else:
        drawn_of = tasks if data else _tasks(config, config.data.validation)
        drawn = draw(rag, algorithm, measuring, config.seed, drawn_of)
        same = data or config.data.test is None
        predictions = rag.read(tasks, drawn.selections) if same else rag.predict(tasks)
        sampled = sampled_metrics(drawn.weighted, algorithm, measuring)
    how = config.answering if answering is None else answering
    if how.kind == "marginal":
        greedy, confidence = predictions, rag.likelihoods(predictions)
        predictions = rag.predict(tasks, select=stage != VANILLA, answering=how)
        sampled["abstained"] = sum(p.abstained for p in predictions) / len(predictions)
        sampled["answering"] = compare_ways(greedy, confidence, predictions)
    own = own_metrics(measuring.metrics)
    records = [evaluate(prediction, own) for prediction in predictions]
    if how.kind in ("union", "joint"):
        greedy_records = records
        predictions = rag.predict(tasks, select=stage != VANILLA, answering=how)
        records = [evaluate(prediction, own) for prediction in predictions]
        sampled["answering"] = compare_selections(greedy_records, records, how.kind)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return {**summarise(records), **sampled, "by_hops": by_hops(records)}
