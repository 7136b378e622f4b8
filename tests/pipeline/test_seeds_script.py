"""`reproductions/seeds.py`: which runs are read, and which are trained anew."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from ragdro.config import dump_config, load_config

ROOT = Path(__file__).parents[2]


def test_a_run_of_another_config_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("seeds_script", ROOT / "reproductions/seeds.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    trained: list[list[str]] = []

    def train(command: list[str], check: bool) -> None:
        overrides = [word for word in command if "=" in word]
        trained.append([word for word in overrides if not word.startswith(("name=", "runs="))])
        folder = tmp_path / "tiny-2-0"
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(dump_config(load_config(command[4], overrides)))
        (folder / "results.json").write_text("{}")

    monkeypatch.setattr(subprocess, "run", train)
    config = str(ROOT / "configs/tiny.yaml")
    ways = [["generator.full_layers=2"], ["generator.link_tokens=2"], ["iterations=1"], ["seed=1"]]
    ways = [["generator.passage_attention=blocks", *own] for own in ways]
    for overrides in ways:
        for _ in range(2):  # the second time it is read
            assert script.run(config, tmp_path, "tiny-2-0", overrides) == tmp_path / "tiny-2-0"
    assert trained == ways
    script.run(config, tmp_path, "tiny-2-0", [*ways[-1], "threads=1"])
    assert trained == ways  # what computes it changes no figure
