"""A finished run goes further, an interrupted one with other settings of the machine, from any folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config.resume import MAY_CHANGE
from ragdro.errors import ConfigError
from ragdro.training.callbacks import Callback
from tests.pipeline.crash import outcome
from tests.pipeline.test_adapters import LORA, adapted
from tests.pipeline.test_train import write_config

_ALL = {"checkpoints": {"keep": "all"}, "patience": None}


def run(path: Path, name: str, *overrides: str, **options: Any) -> dict[str, Any]:
    return ragdro.run(ragdro.load_config(path, [f"name={name}", *overrides]), **options)


class Stop(Callback):
    """Ctrl-C at the `number`-th update of `stage`."""

    def __init__(self, stage: str, number: int = 1) -> None:
        self._stage, self._left = stage, number

    def on_update(self, stage: str, role: str, update: Any) -> None:
        self._left -= stage == self._stage
        if not self._left:
            raise KeyboardInterrupt


_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adapters": {"adapter": LORA},
    "replay and a frozen selector": {"e_step": {"samples": 3, "replay": 1}, "train_selector": False},
    "a reference model": {"objective": {"kind": "rloo", "kl": 0.1}},
}


@pytest.mark.parametrize("kind", _KINDS)
def test_an_extended_run_is_the_longer_run(kind: str, tmp_path: Path) -> None:
    changes = {**_ALL, **_KINDS[kind]}
    path = adapted(tmp_path, **changes) if "adapter" in changes else write_config(tmp_path, **changes)
    run(path, "long", "iterations=3")
    run(path, "short", "iterations=1")
    folder = tmp_path / "runs/short"
    assert not list((folder / "state").glob("*-selector.safetensors"))
    with pytest.raises(KeyboardInterrupt):
        run(path, "short", "iterations=3", resume=True, callbacks=[Stop("iteration-2", 2)])
    assert not (folder / "results.json").exists()
    run(path, "short", "iterations=3", resume=True)
    assert outcome(folder) == outcome(tmp_path / "runs/long")
    assert yaml.safe_load((folder / "config.yaml").read_text())["iterations"] == 3


def test_a_warm_up_alone_becomes_a_run(tmp_path: Path) -> None:
    path = write_config(tmp_path, **_ALL)
    run(path, "long")
    run(path, "grown", "iterations=0")
    run(path, "grown", resume=True)
    assert outcome(tmp_path / "runs/grown") == outcome(tmp_path / "runs/long")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and its run, which its patience stopped at iteration 1 of 3: nothing learns."""
    frozen = {"selector": None, "generator": None}
    path = write_config(
        tmp_path_factory.mktemp("stopped"),
        iterations=3,
        patience=1,
        train_selector=False,
        train_generator=False,
        warm_up=frozen,
    )
    assert len(run(path, "run")["iterations"]) == 1
    return path


def test_a_run_that_stopped_early_goes_on_when_patience_is_lifted(stopped: Path) -> None:
    done = run(stopped, "run", resume=True)
    assert len(done["iterations"]) == 1, "nothing is left to do"
    with pytest.raises(ConfigError, match=r"stopped after iteration 1, 1 or more .*patience=null"):
        run(stopped, "run", "iterations=4", resume=True)
    shutil.copytree(stopped.parent / "runs/run", stopped.parent / "runs/lifted", symlinks=True)
    _rename(stopped.parent / "runs/lifted")
    assert len(run(stopped, "lifted", "patience=null", resume=True)["iterations"]) == 3


def _rename(folder: Path) -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**values, "name": folder.name}))


def test_what_cannot_be_is_refused_with_what_can(stopped: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 are done in .*, more than 0; resume with iterations=3"):
        run(stopped, "run", "iterations=0", resume=True)
    folder = stopped.parent / "runs/bare"
    shutil.copytree(stopped.parent / "runs/run", folder, symlinks=True)
    _rename(folder)
    shutil.rmtree(folder / "state")
    assert len(run(stopped, "bare", resume=True)["iterations"]) == 1
    with pytest.raises(ConfigError, match=r"state is gone, .*name=NEW warm_up\.from="):
        run(stopped, "bare", "iterations=9", "patience=null", resume=True)


_FREE = (
    "device=cpu",
    "threads=1",
    "m_step.generator.max_tokens_per_micro_batch=150",
    "e_step.max_tokens_per_micro_batch=400",
    "evaluation.max_tokens_per_micro_batch=400",
    "selector.gradient_checkpointing=true",
    "generator.attention=eager",
    "checkpoints.every=1",
    "retriever.shard_size=7",
    "patience=7",
)


def test_settings_of_the_machine_may_change_and_others_may_not(tmp_path: Path) -> None:
    path = write_config(tmp_path, **_ALL)
    whole = run(path, "whole")
    with pytest.raises(KeyboardInterrupt):
        run(path, "run", callbacks=[Stop("iteration-1", 3)])
    for override in ("m_step.generator.learning_rate=1e-4", "top_n=5", "selector.dtype=bfloat16", "seed=3"):
        with pytest.raises(ConfigError, match=f"{override.split('=')[0]}: the run began with"):
            run(path, "run", override, resume=True)
    found = run(path, "run", *_FREE, resume=True)
    for own, theirs in zip(found["iterations"], whole["iterations"], strict=True):
        assert own["bound"] == pytest.approx(theirs["bound"], abs=1e-3)
    kept = ragdro.load_config(tmp_path / "runs/run/config.yaml")
    assert kept == ragdro.load_config(path, ["name=run", *_FREE]).model_copy(
        update={role: getattr(kept, role) for role in ("selector", "generator")}  # prompt_date
    )
    assert kept.selector.gradient_checkpointing and kept.generator.attention == "eager"


def test_the_page_lists_what_may_change() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/runs.md").read_text()
    missing = [key for keys in MAY_CHANGE.values() for key in keys if f"`{key}`" not in page]
    assert not missing


def test_a_run_with_relative_paths_is_the_same_run_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace(f"{tmp_path}/", ""))
    monkeypatch.chdir(tmp_path)
    run(Path("config.yaml"), "run", "iterations=1")
    assert "train: train.jsonl" in Path("runs/run/config.yaml").read_text()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    asked = CliRunner().invoke(app, ["answer", "../runs/run", "Where does Mara1 work?"])
    assert asked.exit_code == 0 and not list(Path().iterdir()), "the run's own cache and corpus are used"
    moved = Path("../config.yaml").read_text().replace("runs: runs", "runs: ../runs")
    for name in ("model", "cache", "train.jsonl", "validation.jsonl", "corpus.jsonl"):
        moved = moved.replace(f": {name}\n", f": ../{name}\n")
    Path("config.yaml").write_text(moved)
    assert len(run(Path("config.yaml"), "run", "iterations=2", resume=True)["iterations"]) == 2
    assert [entry.name for entry in Path().iterdir()] == ["config.yaml"]
    Path("config.yaml").unlink()
    for given in ("../runs/run", "../config.yaml"):
        resumed = CliRunner().invoke(app, ["train", given, "--resume", "iterations=3", "patience=null"])
        assert resumed.exit_code == 0 and not list(Path().iterdir()), resumed.output
    monkeypatch.chdir(tmp_path)
    assert len(run(Path("config.yaml"), "run", "iterations=3", resume=True)["iterations"]) == 3
