"""Losses that are not finite: named, written aside, left out up to a limit; impossible questions: counted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import TrainingError
from ragdro.training import cross_fit, e_step, warm_up
from tests.pipeline.crash import outcome
from tests.pipeline.test_train import write_config


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the warm-up, the loss of question q2 is NaN."""
    fit = warm_up.fit

    def spoil(model: Any, count: int, builds: Any, *rest: Any) -> None:
        def spoilt_example(build: Any, i: int) -> Any:
            made = build(i)
            nan = (math.nan,) * len(made.weights)
            return replace(made, weights=nan) if made.question_id == "q2" else made

        each = [builds] if callable(builds) else builds
        fit(model, count, [partial(spoilt_example, build) for build in each], *rest)

    monkeypatch.setattr(warm_up, "fit", spoil)


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in (run / "metrics.jsonl").open()]


def test_a_batch_that_is_not_finite_is_named_written_aside_and_left_out(tmp_path: Path, spoilt: None) -> None:
    config = write_config(tmp_path, iterations=0)
    ragdro.run(ragdro.load_config(config))
    run = tmp_path / "runs/run"
    bad = [r for r in records(run) if r["event"] == "bad_batch"]
    assert [(r["stage"], r["role"]) for r in bad] == [("warm_up", "selector"), ("warm_up", "generator")]
    assert all("q2" in r["questions"] and len(r["questions"]) == 2 for r in bad)
    assert all("loss is nan" in r["problem"] for r in bad)
    for r in bad:
        aside = json.loads((run / f"bad_batches/warm_up-{r['role']}-{r['step']}.json").read_text())
        assert [s["question"] for s in aside["sequences"]] == r["questions"]
        assert all(s["tokens"][0] for s in aside["sequences"])
    for role in ("selector", "generator"):
        weights = load_file(run / f"checkpoints/iteration-0/{role}/model.safetensors")
        start = load_file(tmp_path / "model/model.safetensors")
        assert all(w.isfinite().all() for w in weights.values())
        assert any((weights[k] != start[k]).any() for k in start)  # the other update was taken


def test_after_too_many_the_run_stops_with_advice_and_can_be_gone_on_with(
    tmp_path: Path, spoilt: None
) -> None:
    config = write_config(tmp_path, iterations=0)
    ragdro.run(ragdro.load_config(config, ["name=whole"]))
    with pytest.raises(TrainingError) as stopped:
        CliRunner().invoke(app, ["train", str(config), "bad_batches=1"], catch_exceptions=False)
    message = str(stopped.value)
    assert stopped.value.exit_code == 1 and "\n" not in message
    assert all(word in message for word in ("'q2'", "bad_batches = 1", "learning_rate", "bad_batches"))
    ragdro.run(ragdro.load_config(config, ["bad_batches=2"]), resume=True)
    assert outcome(tmp_path / "runs/run") == outcome(tmp_path / "runs/whole")


def test_impossible_questions_are_weighted_alike_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator finds every permutation of q1 impossible."""
    scored = cross_fit.answer_log_likelihoods
    drawn: dict[str, list[float]] = {}

    def likelihoods(generator: Any, tasks: Any, draws: Any, tokens: int) -> Any:
        scores = scored(generator, tasks, draws, tokens)
        return [
            [-math.inf] * len(f) if t.question.id == "q1" else f for t, f in zip(tasks, scores, strict=True)
        ]

    def weigh(task: Any, *arguments: Any) -> Any:
        weighted = weigh_one(task, *arguments)
        drawn[task.question.id] = [s.weight - s.count / 3 for s in weighted.samples]
        return weighted

    weigh_one = e_step._weigh
    monkeypatch.setattr(cross_fit, "answer_log_likelihoods", likelihoods)
    monkeypatch.setattr(e_step, "_weigh", weigh)
    ragdro.run(ragdro.load_config(write_config(tmp_path), ["iterations=1"]))
    (event,) = [r for r in records(tmp_path / "runs/run") if r["event"] == "e_step"]
    assert event["impossible_questions"] == 1 and event["bound"] is None and event["samples"] == 3
    assert drawn["q1"] == pytest.approx([0] * len(drawn["q1"]))
    assert any(abs(share) > 1e-3 for share in drawn["q0"] + drawn["q2"] + drawn["q3"])
