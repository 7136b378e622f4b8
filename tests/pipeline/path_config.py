"""The config of a small run that asks a question again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ragdro.lm.saving import save_language_model
from tests.conftest import byte_level, random_model
from tests.paths import far_passages, far_questions
from tests.pipeline.test_train import jsonl


def path_config(folder: Path, **changes: Any) -> Path:
    """Six training questions, two rounds, three untrained models; every update is saved."""
    corpus = [{"id": p.id, "title": p.title, "text": p.text} for p in far_passages(8)]
    questions = [
        {
            "id": q.id,
            "question": q.question,
            "answers": list(q.answers),
            "queries": list(q.queries or ()),
            "passages": [{"title": p.title, "text": p.text, "gold": True} for p in q.passages],
            "hops": q.hops,
        }
        for q in far_questions(8)
    ]
    for seed, name in enumerate(("selector", "generator", "rewriter")):
        save_language_model(random_model(byte_level(), seed=seed), folder / name)
    fit = {"learning_rate": 1e-3, "batch_size": 2}
    fits = dict.fromkeys(("selector", "generator", "rewriter"), fit)
    limits = {"passage_tokens": 24, "question_tokens": 24}
    config: dict[str, Any] = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {
            "train": jsonl(folder / "train.jsonl", questions[:6]),
            "validation": jsonl(folder / "validation.jsonl", questions[6:]),
            "corpus": jsonl(folder / "corpus.jsonl", corpus),
        },
        "top_n": 4,
        "retriever": {"kind": "tests.paths:Hashed"},
        "retrieval": {"rounds": 2, "k": [1, 2], "stop": True},
        "selector": {"model": str(folder / "selector"), "k": 2, "prompt": "tiny-selector", **limits},
        "generator": {
            "model": str(folder / "generator"),
            "answer_tokens": 4,
            "prompt": "tiny-generator",
            **limits,
        },
        "rewriter": {
            "model": str(folder / "rewriter"),
            "query_tokens": 8,
            "prompt": "tiny-rewriter",
            **limits,
        },
        "warm_up": fits,
        "m_step": fits,
        "e_step": {"samples": 3, "questions_per_shard": 2},
        "evaluation": {"samples": 3, "tight_samples": None},
        "checkpoints": {"every": 1},
        "iterations": 2,
        "patience": None,
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
