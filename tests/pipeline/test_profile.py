"""`ragdro train --profile` through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli import app
from tests.pipeline.test_train import write_config

PHASES = {
    "retrieve", "tokenise", "prefill", "decode", "score", "selector update", "generator update", "evaluate",
    "save", "other",
}  # fmt: skip


def test_a_profile_accounts_for_all_of_the_time_and_changes_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    for name, flags in (("plain", []), ("profiled", ["--profile"])):
        result = CliRunner().invoke(
            app, ["train", str(config), f"name={name}", *flags], catch_exceptions=False
        )
        assert result.exit_code == 0 and ("selector update" in result.stdout) == bool(flags)
    runs = tmp_path / "runs"
    assert (runs / "plain" / "results.json").read_bytes() == (runs / "profiled" / "results.json").read_bytes()
    assert not (runs / "plain" / "profile.json").exists()
    profile = json.loads((runs / "profiled" / "profile.json").read_text())
    phases = profile["phases"]
    assert set(phases) == PHASES
    assert sum(p["seconds"] for p in phases.values()) == pytest.approx(profile["total"]["seconds"])
    assert sum(p["fraction"] for p in phases.values()) == pytest.approx(1)
    computing = {"prefill", "decode", "score", "selector update", "generator update", "evaluate"}
    assert {name for name, p in phases.items() if p["tokens"]} == computing
    for name in computing:
        rate = phases[name]["flops_per_second"]
        assert phases[name]["utilisation"] == pytest.approx(rate / profile["peak_flops_per_second"])
