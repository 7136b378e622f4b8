"""A run says with which commands and versions it was begun and resumed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import ragdro
from ragdro import environment
from ragdro.report.card import model_card
from ragdro.report.run_page import write_report
from ragdro.runs.stages import config_of
from tests.pipeline.test_train import write_config


def trained(path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """`ragdro train PATH WORDS`, without the report."""
    monkeypatch.setattr(sys, "argv", ["ragdro", "train", path.name, *words])
    overrides = [word for word in words if word != "--resume"]
    ragdro.run(ragdro.load_config(path, overrides), resume="--resume" in words)


def facts(page: str, name: str) -> list[str]:
    """What the page says under a name."""
    return [text.partition("</dd>")[0] for text in page.split(f"<dt>{name}</dt><dd>")[1:]]


def test_a_report_has_every_command_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, run = write_config(tmp_path, patience=None), tmp_path / "runs/run"
    monkeypatch.setattr(environment, "_commit", lambda: "0123456789abcdef")
    trained(path, monkeypatch, "iterations=0", "report_to=[]")
    first = json.loads((run / "environment.json").read_text())
    trained(path, monkeypatch, "--resume", "iterations=1", "checkpoints.every=7")
    monkeypatch.setattr(environment, "_commit", lambda: "fedcba9876543210")
    trained(path, monkeypatch, "--resume", "iterations=1", "checkpoints.every=7")  # nothing is left to do
    trained(path, monkeypatch, "--resume", "iterations=2")
    noted = json.loads((run / "environment.json").read_text())
    assert {key: noted[key] for key in first} == first
    assert [set(one) - {"date"} for one in noted["resumed"]] == [{"command"}, {"command", "commit"}]
    page = write_report(run).read_text()
    assert facts(page, "command") == ["ragdro train config.yaml iterations=0 &#x27;report_to=[]&#x27;"]
    assert facts(page, "resumed with") == [
        "ragdro train config.yaml --resume iterations=1 checkpoints.every=7",
        "ragdro train config.yaml --resume iterations=2",
    ]
    (made,), (resumed,) = facts(page, "made with"), facts(page, "resumed by")
    assert made.endswith("; commit 0123456789") and resumed.endswith("; commit fedcba9876")
    card = model_card(run, config_of(run), "selector", "iteration-2", "exported")
    assert f"Made with {made}, resumed by {resumed}; seed 0." in card
