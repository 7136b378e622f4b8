"""Runs whose generator reads passages as blocks, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.errors import ConfigError
from ragdro.lm.model import LanguageModel
from tests.pipeline.test_train import write_config

BLOCKS = "generator.passage_attention=blocks"


def test_a_run_with_both_in_turn_trains_measures_and_answers_with_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[bool] = []
    block_hidden = LanguageModel.block_hidden
    monkeypatch.setattr(
        LanguageModel,
        "block_hidden",
        lambda self, *row: rows.append(torch.is_grad_enabled()) or block_hidden(self, *row),
    )
    config = write_config(tmp_path, iterations=1)
    change = [f"{BLOCKS}-then-full", "m_step.generator.epochs=2"]
    result = CliRunner().invoke(app, ["train", str(config), *change], catch_exceptions=False)
    assert result.exit_code == 0
    run = tmp_path / "runs" / "run"
    updates = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    fitted = [u for u in updates if u["event"] == "update" and u["role"] == "generator"]
    assert len(fitted) == 6 and sum(rows) == sum(u["step"] % 2 for u in fitted)
    best = json.loads((run / "results.json").read_text())["best"]
    assert best["fallbacks"] == 0 and best["bound"] < 0
    asked = ["answer", str(run), "Where does Mara1 work?"]
    for further, in_blocks in (([], True), (["--passage-attention", "full"], False)):
        rows.clear()
        answered = CliRunner().invoke(app, [*asked, *further], catch_exceptions=False)
        assert answered.exit_code == 0 and bool(rows) is in_blocks
    measured = ["evaluate", str(run)]
    for further in ([], ["--passage-memory", "1"]):
        done = CliRunner().invoke(app, [*measured, *further], catch_exceptions=False)
        assert done.exit_code == 0
        assert json.loads(done.stdout)["bound"] == pytest.approx(best["bound"], abs=1e-5)
    refused = CliRunner().invoke(app, ["evaluate", str(run), "--passage-attention", "both"])
    assert refused.exit_code == 2 and "--passage-attention" in refused.output


def test_blocks_from_a_warm_up_without_them(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=0)
    assert CliRunner().invoke(app, ["train", str(config)], catch_exceptions=False).exit_code == 0
    change = ["name=other", f"warm_up.from={tmp_path / 'runs' / 'run'}", BLOCKS]
    done = CliRunner().invoke(app, ["train", str(config), *change], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("generator.attention=eager", "attention: sdpa"),
        ("generator.prompt=selector", "identifier"),
        ("generator.passage_attention=full generator.passage_memory=1", "passage_memory"),
        ("generator.full_layers=2 generator.passage_memory=1", "passage_memory"),
        ("generator.full_layers=2 generator.passage_attention=full", "full_layers"),
        ("generator.full_layers=1", "full_layers"),
        ("generator.link_tokens=2 generator.passage_attention=full", "link_tokens"),
        ("generator.link_tokens=2 generator.full_layers=2", "link_tokens"),
        ("generator.link_tokens=-1", "link_tokens"),
        ("generator.linked=first", "linked"),
        ("generator.link_tokens=2 generator.linked=middle", "linked"),
        ("generator.full_layers=2", "full_layers"),
        ("generator.full_layers=2 warm_up.loss=all_tokens", "warm_up.loss"),
    ],
)
def test_what_cannot_be_read_in_blocks_is_refused_in_one_line(
    tmp_path: Path, change: str, reason: str
) -> None:
    config = write_config(tmp_path, iterations=0)
    result = CliRunner().invoke(app, ["train", str(config), BLOCKS, *change.split()])
    assert isinstance(result.exception, ConfigError)
    said = str(result.exception)
    assert "\n" not in said and "generator" in said and reason in said
