"""What does not go together with further queries, and what they learn in the embedded world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import ragdro
from ragdro.errors import ConfigError
from tests.pipeline.path_config import path_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return path_config(tmp_path_factory.mktemp("paths"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retriever={kind: given}", "retrieval.rounds: retriever given"),
        (
            "retriever={kind: external, source: {type: candidates, path: found.jsonl}}",
            r"retrieval.rounds: retriever external \(candidates\)",
        ),
        ("rewriter=null", "retrieval.rounds: 2 rounds take a rewriter"),
        ("retrieval={rounds: 1}", "rewriter: asks nothing with retrieval.rounds: 1"),
        ("retrieval={rounds: 1, stop: true}", "retrieval: stop: there is nothing to end"),
        (
            "retrieval={rewrite_first: true} && retriever={kind: given}",
            "retrieval.rewrite_first: retriever given has candidates of known questions alone",
        ),
        (
            "retrieval={rewrite_first: true} && rewriter=null",
            "retrieval.rewrite_first: takes a rewriter; give rewriter.model",
        ),
        (
            "retrieval={rewrite_first: true} && e_step.replay=1",
            "e_step.replay: does not go with retrieval.rewrite_first; set it to false",
        ),
        ("retrieval.k=[1]", "retrieval: k: 1 numbers for 2 rounds"),
        ("retrieval.k=[1,9]", "retrieval.k: K = 9 is more than top_n"),
        ("corrupt_candidates=0.5", "corrupt_candidates: does not go with"),
        ("answering=union", "answering: union takes the lists of one retrieval; where a rewriter asks"),
        ("objective=marginal", "objective: marginal: does not go with"),
        ("objective=sft", "objective: sft: does not go with"),
        ("e_step.replay=1", "e_step.replay: does not go with"),
        ("e_step.engine={kind: vllm}", "e_step.engine: vllm: does not go with"),
        ("e_step.mixture={teacher: 0.2}", "e_step.mixture.teacher: does not go with"),
        ("warm_up.teacher=fused", "warm_up.teacher: fused: does not go with"),
        ("parallel.strategy=fsdp2", "parallel.strategy: fsdp2: does not go with"),
        ("shared_backbone=true", "shared_backbone: needs selector.adapter"),
    ],
)
def test_what_does_not_go_together_is_refused_by_its_key(config: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ragdro.load_config(config, override.split(" && "))


@pytest.mark.slow
def test_the_embedded_model_learns_to_ask_for_what_the_first_passage_names(tmp_path: Path) -> None:
    """The world "far": the second passage of a two-hop question is seldom among the first candidates."""
    budgets = {"model": "tiny:base", "passage_tokens": 24, "question_tokens": 48}
    fit = {"learning_rate": 5e-4, "batch_size": 16, "beta2": 0.98}
    settings: dict[str, Any] = {
        "runs": str(tmp_path / "runs"),
        "cache": str(tmp_path / "cache"),
        "threads": 1,
        "data": {
            "train": "tiny:far-train",
            "validation": "tiny:far-validation",
            "corpus": "tiny:far-corpus",
            "train_questions": 96,
        },
        "retrieval": {"rounds": 2, "k": [1, 1], "stop": True},
        "selector": {**budgets, "prompt": "tiny-selector", "k": 1},
        "generator": {**budgets, "prompt": "tiny-generator", "answer_tokens": 6},
        "rewriter": {**budgets, "prompt": "tiny-rewriter", "query_tokens": 6},
        "warm_up": {
            "teacher": "gold",
            "selector": fit,
            "generator": None,
            "rewriter": {**fit, "learning_rate": 1e-3, "epochs": 4},
        },
        "iterations": 0,
        "evaluation": {"samples": 1, "tight_samples": None, "questions": 24},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    ragdro.run(ragdro.load_config(path))
    lines = (tmp_path / "runs/run/predictions-warm_up.jsonl").read_text().splitlines()
    for hops, searches in ((1, 1), (2, 2)):
        own = [record for record in map(json.loads, lines) if record["hops"] == hops]
        assert sum(record["retrievals"] for record in own) == pytest.approx(searches * len(own), abs=1)
    found_at_first = [max(record["path"][0]["found"]) for record in own]
    both = [record["gold_in_candidates"] for record in own]
    assert sum(both) > 0.6 * len(both) and set(found_at_first) == {20}
