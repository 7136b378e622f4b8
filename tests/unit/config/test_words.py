"""What is wrong with a value is said in words, with what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.config import load_config
from ragdro.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("selector.k=abc", "selector.k: must be a whole number (value: 'abc')"),
        ("selector.k={a: 1}", "selector.k: must be a whole number (value: {'a': 1})"),
        ("selector.k=0", "selector.k: must be at least 1 (value: 0)"),
        ("patience=null && patience=1.5", "patience: must be a whole number, or null (value: 1.5)"),
        ("e_step.temperature=hot", "e_step.temperature: must be a number (value: 'hot')"),
        ("corrupt_candidates=2", "corrupt_candidates: must be at most 1 (value: 2)"),
        ("shared_backbone=maybe", "shared_backbone: must be true or false (value: 'maybe')"),
        ("data.train=null", "data.train: must be text (value: null)"),
        ("name=2024", "name: must be text (value: 2024); as text it is '\"2024\"'"),
        (
            "name=../w",
            "name: must be letters, digits, '.', '_' and '-' alone, and begin with a letter or a digit"
            " (value: '../w')",
        ),
        ("retrieval.k=3", "retrieval.k: must be a list, or null (value: 3)"),
        ("data.fields=3", "data.fields: must be a mapping of keys to values (value: 3)"),
        ("selector=[1]", "selector: must be a mapping of keys to values (value: [1])"),
        (
            "selector.prompt_date=tomorrow",
            "selector.prompt_date: must be a date, such as 2026-01-31, or null (value: 'tomorrow')",
        ),
        ("m_step.generator.schedule=x", "m_step.generator.schedule: must be constant, linear or cosine"),
        (
            "selector.adapter.targets=3",
            "selector.adapter.targets: must be a list, or all-linear (value: 3)",
        ),
        (
            "selector.adapter.targets=[]",
            "selector.adapter.targets: must be a list of 1 or more, or all-linear",
        ),
        (
            "retriever.kind=bm52",
            "retriever.kind: must be bm25, dense, colbert, hybrid, external, postgres, qdrant, given or a"
            " class of your own as package.module:Name (value: 'bm52')",
        ),
        ("retriever=5", "retriever: must be a mapping whose kind is bm25, dense, colbert, hybrid, external,"),
        (
            "e_step.engine=vlm",
            "e_step.engine.kind: must be transformers, vllm, vllm-server or openai-compatible",
        ),
        ("retriever={kind: dense}", "retriever.model: must be given"),
        (
            "retriever={kind: dense, model: m, index: {type: flt}}",
            "retriever.index.type: must be flat, pq, ivfpq or hnsw (value: 'flt')",
        ),
        (
            "retriever={kind: dense, model: m, index: {kind: flat}}",
            "retriever.index: must be a mapping whose type is flat, pq, ivfpq or hnsw (value: {'kind':",
        ),
        (
            "retriever={kind: hybrid, members: [{kind: bm2}]}",
            "retriever.members.0.kind: must be bm25, dense, colbert or external (value: 'bm2')",
        ),
        (
            "retriever={kind: hybrid, members: [{kind: bm25, model: m}]}",
            "key 'retriever.members.0.model' does not go with this retriever.members.0's kind",
        ),
        (
            "retriever={kind: external, source: {type: json, url: host}}",
            "retriever.source.url: must be an address that begins with http:// or https:// (value: 'host')",
        ),
        ("objective={kind: dro-tempered, floor: 0}", "objective.floor: must be at least 1 (value: 0)"),
        (
            "evaluation.metrics=[x]",
            "evaluation.metrics.0: must be an import path, such as package.module:Name",
        ),
        (
            "data.fields={a: b}",
            "data.fields.a: must be id, question, answers, passages or candidates, or passage_id, title or"
            " text (value: 'a')",
        ),
        ("zzz=1", "unknown key 'zzz'; list them with: ragdro config"),
        ("m_step.zzzzzzzzzz=1", "unknown key 'm_step.zzzzzzzzzz'; there are generator, rewriter, selector"),
        ("selector.k=[", "selector.k: not YAML: line 1, column 2"),
    ],
)
def test_what_is_wrong_is_said_in_words_with_what_is_allowed(override: str, said: str) -> None:
    path = Path(__file__).parents[3] / "configs/tiny.yaml"
    with pytest.raises(ConfigError) as refused:
        load_config(path, override.split(" && "))
    assert str(refused.value).removeprefix(f"{path}: ").startswith(said)
