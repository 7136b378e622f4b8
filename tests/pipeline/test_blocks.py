"""Runs whose generator reads passages as blocks, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.errors import ConfigError
from ragdro.lm.model import LanguageModel
from tests.pipeline.test_train import write_config

BLOCKS = "generator.passage_attention=blocks"


def test_a_run_in_blocks_trains_measures_and_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    block_hidden = LanguageModel.block_hidden
    monkeypatch.setattr(
        LanguageModel,
        "block_hidden",
        lambda self, row, *rest: rows.append(len(row)) or block_hidden(self, row, *rest),
    )
    config = write_config(tmp_path, iterations=1)
    result = CliRunner().invoke(app, ["train", str(config), BLOCKS], catch_exceptions=False)
    assert result.exit_code == 0
    trained, run = len(rows), tmp_path / "runs" / "run"
    assert trained > 10
    best = json.loads((run / "results.json").read_text())["best"]
    assert best["fallbacks"] == 0 and best["bound"] < 0
    asked = CliRunner().invoke(app, ["answer", str(run), "Where does Mara1 work?"], catch_exceptions=False)
    assert asked.exit_code == 0 and len(rows) > trained


def test_blocks_from_a_warm_up_without_them(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=0)
    assert CliRunner().invoke(app, ["train", str(config)], catch_exceptions=False).exit_code == 0
    change = ["name=other", f"warm_up.from={tmp_path / 'runs' / 'run'}", BLOCKS]
    done = CliRunner().invoke(app, ["train", str(config), *change], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [("generator.attention=eager", "attention: sdpa"), ("generator.prompt=selector", "identifier")],
)
def test_what_cannot_be_read_in_blocks_is_refused_in_one_line(
    tmp_path: Path, change: str, reason: str
) -> None:
    config = write_config(tmp_path, iterations=0)
    result = CliRunner().invoke(app, ["train", str(config), BLOCKS, change])
    assert isinstance(result.exception, ConfigError)
    said = str(result.exception)
    assert "\n" not in said and "passage_attention" in said and reason in said
