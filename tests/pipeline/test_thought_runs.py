"""Runs whose generator thinks before it answers: the folder, interruption, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import ConfigError
from ragdro.report.plain import one_line
from ragdro.report.predictions import read_records
from ragdro.report.run_page import write_report
from ragdro.runs.weighted_lists import weighted_lists
from ragdro.serve.jobs import Answered, AnswerJob, work
from tests.pipeline.crash import killed_and_resumed, outcome
from tests.pipeline.path_config import path_config


def thought_config(folder: Path, **changes: Any) -> Path:
    """Two rounds, then a thought of at most five tokens; two folds weight the paths."""
    return path_config(folder, cross_fitted=True, iterations=1, **changes)


THINK = ["generator.think=5", "generator.prompt=tiny-thinking"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thoughts")
    ragdro.run(ragdro.load_config(thought_config(folder), THINK))
    return folder


def test_the_e_step_keeps_thoughts_and_what_was_measured_is_finite(finished: Path) -> None:
    run = finished / "runs/run"
    results = json.loads((run / "results.json").read_text())
    assert results["best"]["bound"] < 0
    weighted = weighted_lists(run, ragdro.load_config(run / "config.yaml"))
    assert len(weighted) == 6
    for one in weighted:
        for sample in one.samples:
            assert sample.path is not None and sample.thought is not None
            assert 1 <= len(sample.thought.tokens) <= 5
            assert sample.thought.log_proposal == sample.thought.log_prior < 0


def test_a_thought_is_shown_wherever_a_path_is(finished: Path) -> None:
    run, asked = finished / "runs/run", "Which town has Mara1?"
    rag = ragdro.load(run)
    alone = rag.answer(asked)
    assert alone.thought is not None
    thought = alone.thought.text.strip() or "(nothing)"

    def answer(*options: str) -> str:
        result = CliRunner().invoke(app, ["answer", str(run), asked, *options], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    lines = " ".join(answer("--show-path").split())
    assert f"thought: {' '.join(thought.split())}" in lines
    assert json.loads(answer("--json"))["thought"] == alone.thought.text
    assert answer().strip() == one_line(alone.shown).strip()
    rags: dict[str | None, Any] = {None: rag}
    (done,) = work(rags, [AnswerJob(asked, scored=True)], 4)
    assert isinstance(done, Answered) and done.prediction.thought == alone.thought
    assert done.log_probability is not None and done.answer_tokens >= len(alone.thought.tokens)
    records = read_records(run, "iteration-1")
    page = write_report(run).read_text(encoding="utf-8")
    assert all("thought" in record for record in records)
    wrong = [record for record in records if not record["exact_match"]]
    assert wrong and page.count("<p>thought: ") >= len(wrong)


@pytest.mark.parametrize("commit", [16, 26])
def test_a_run_that_is_killed_ends_as_one_that_was_not(
    finished: Path, commit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the first shard of an E-step, in the generator's fit."""
    config = ragdro.load_config(finished / "config.yaml", [*THINK, f"name=killed-{commit}"])
    expected, resumed = outcome(finished / "runs/run"), killed_and_resumed(config, commit, monkeypatch)
    assert resumed.keys() == expected.keys()
    assert [key for key in expected if resumed[key] != expected[key]] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective=sft", "objective: sft"),
        ("objective=marginal", "objective: marginal"),
        ("objective=rloo", "objective: rloo"),
        ("objective=rrpo", "objective: rrpo"),
        ("objective=dpo", "objective: dpo"),
        ("warm_up.loss=all_tokens", "warm_up.loss: all_tokens"),
        ("parallel.strategy=fsdp2", "parallel.strategy: fsdp2"),
        ("generator.passage_attention=blocks", "generator.*think"),
        ("generator.think=-1", "generator.think"),
    ],
)
def test_what_does_not_go_with_thoughts_is_refused_by_its_key(
    change: str, message: str, tmp_path: Path
) -> None:
    path = path_config(tmp_path, retrieval={}, rewriter=None)
    with pytest.raises(ConfigError, match=message):
        ragdro.load_config(path, [*THINK, change])


def test_thoughts_of_answers_are_refused_where_there_are_none(tmp_path: Path) -> None:
    path = path_config(tmp_path, retrieval={}, rewriter=None)
    marginal = "answering={kind: marginal, thoughts: 3}"
    assert ragdro.load_config(path, [*THINK, marginal]).answering.thoughts == 3
    with pytest.raises(ConfigError, match=r"answering\.thoughts: .*think: 0"):
        ragdro.load_config(path, [marginal])
    with pytest.raises(ConfigError, match="thoughts: a greedy answer"):
        ragdro.load_config(path, [*THINK, "answering={thoughts: 3}"])


def test_null_and_0_are_no_thought_and_a_thought_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    path = path_config(tmp_path)
    for value in ("null", "0"):
        assert ragdro.load_config(path, [f"generator.think={value}"]).generator.think == 0
    settings = ragdro.config.GeneratorSettings
    assert settings(model="m").prompt == "generator"
    assert settings(model="m", think=8).prompt == "thinking"
    assert settings(model="m", think=8, prompt="mine.yaml").prompt == "mine.yaml"
