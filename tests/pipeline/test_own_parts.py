"""An objective, a retriever, a metric and a prompt of one's own, by import path, through a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ragdro
from ragdro.algorithms import Algorithm
from ragdro.errors import ConfigError
from tests.pipeline.test_train import write_config

PROMPT = {"user": "Read: {passages} Question: {question} Answer:", "passage": "{text}. ", "start": " "}
HERE = "tests.pipeline.test_own_parts"


class Half(Algorithm):
    """Says what the selector learns and not what the generator does."""

    def selector_example(self, selector: Any, weighted: Any) -> Any:
        return None


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    config = ragdro.load_config(write_config(folder, iterations=1, top_n=3), overrides)
    return ragdro.run(config)


def test_parts_of_ones_own_make_a_run(tmp_path: Path) -> None:
    results = run(
        tmp_path,
        "objective=examples.objective:BestOnly",
        "retriever={kind: 'examples.retriever:Shelf'}",
        "evaluation.metrics=['examples.retriever:short']",
        "evaluation.metric='examples.retriever:short'",
        f"generator.prompt={HERE}:PROMPT",
        "data.corpus=null",
    )
    assert 0 <= results["best"]["examples.retriever:short"] <= 1
    run_folder = tmp_path / "runs/run"
    records = [json.loads(line) for line in (run_folder / "predictions-warm_up.jsonl").open()]
    mean = sum(r["examples.retriever:short"] for r in records) / len(records)
    assert results["warm_up"]["examples.retriever:short"] == pytest.approx(mean)
    assert {p["text"] for p in records[0]["selection"]} <= {p.text for p in _shelf()}
    config = ragdro.load_config(run_folder / "config.yaml")
    assert config.objective.kind == "examples.objective:BestOnly"
    assert ragdro.load(run_folder).answer("Where does Mara4 work?").selected


def _shelf() -> list[ragdro.Passage]:
    from examples.retriever import SHELF

    return SHELF


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("objective=no_such.module:Thing", r"objective.kind: no_such.module:Thing: cannot be imported"),
        ("objective=examples.objective:Nothing", "module 'examples.objective' has no 'Nothing'"),
        ("objective=examples.retriever:Shelf", "is no subclass of ragdro.algorithms.Algorithm"),
        (
            f"objective={HERE}:Half",
            "test_own_parts:Half has no generator_example",
        ),
        ("objective={kind: 'examples.objective:BestOnly', floor: 2}", "objective.floor"),
        ("retriever={kind: 'examples.retriever:short'}", "is not a class"),
        (
            "evaluation.metrics=['examples.retriever:SHELF']",
            "is no function of an answer",
        ),
        ("evaluation.metric='examples.retriever:short'", "has to be one of evaluation.metrics"),
        ("generator.prompt=examples.retriever:SHELF", "a prompt template has the keys user, passage"),
        ("generator.prompt=examples.retriever:NOTHING", "has no 'NOTHING'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_a_folder_is_there(
    override: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ragdro.RagdroError, match=message) as refused:
        run(tmp_path, override)
    assert "\n" not in str(refused.value) and isinstance(refused.value, ragdro.RagdroError)
    assert not (tmp_path / "runs/run").exists()
    assert ConfigError.exit_code == 2
