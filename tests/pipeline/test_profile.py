"""`ragdro train --profile` through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config import load_config
from ragdro.profiling import Profile, active_profile, profiled
from ragdro.runs.state import StateStore
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


def test_whatever_brings_a_state_to_disk_is_time_of_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard, an update in a fit's middle and at its end, a stage, and a finished run that goes further."""
    phases, commit = list[str](), StateStore.commit

    def seen(*arguments: Any) -> None:
        profile = active_profile()
        assert profile is not None
        phases.append(profile.phase)
        commit(*arguments)

    monkeypatch.setattr(StateStore, "commit", seen)
    path = write_config(tmp_path, checkpoints={"every": 1})
    with profiled(Profile(1.0)):
        ragdro.run(load_config(path, ["iterations=1"]))
        ragdro.run(load_config(path), resume=True)
    assert set(phases) == {"save"} and len(phases) > 20
