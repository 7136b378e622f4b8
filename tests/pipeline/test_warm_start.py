"""`warm_up.from`: a run that starts from another run's pair does what that run did after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

import ragdro
from ragdro.cli import app
from ragdro.config import TrainingSettings, WarmUp
from ragdro.errors import ConfigError, ModelError, RagdroError, TrainingError
from ragdro.training.callbacks import Callback
from tests.pipeline.test_adapters import LORA, adapted
from tests.pipeline.test_train import write_config
from tests.worlds import pocket_rag, pocket_tasks

_KEPT = {"keep": "all"}
_ITS_OWN = ("kl_to_previous", "iteration")
_STAGES = ("vanilla_rag", "warm_up", "iterations", "best")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and its run, `runs/run`."""
    folder = tmp_path_factory.mktemp("base")
    ragdro.run(ragdro.load_config(write_config(folder, checkpoints=_KEPT)))
    return folder


def started(folder: Path, name: str, *overrides: str, start: str = "run") -> dict[str, Any]:
    """The results of a run of `folder`'s config that starts from `runs/START`."""
    where = f"warm_up.from={folder}/runs/{start}"
    return ragdro.run(ragdro.load_config(folder / "config.yaml", [where, f"name={name}", *overrides]))


def results_of(folder: Path, name: str = "run") -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "runs" / name / "results.json").read_text())
    return results


def weights_of(run: Path, stage: str) -> dict[str, bytes]:
    return {
        str(p.relative_to(run)): p.read_bytes() for p in (run / "checkpoints" / stage).rglob("*.safetensors")
    }


@pytest.mark.parametrize("kind", ["whole", "adapters", "shared backbone"])
def test_the_loop_is_the_other_runs_loop_bit_for_bit(kind: str, tmp_path: Path, base: Path) -> None:
    folder = base
    if kind != "whole":
        folder = tmp_path
        changes = {"adapter": LORA, "checkpoints": _KEPT, "shared_backbone": kind == "shared backbone"}
        ragdro.run(ragdro.load_config(adapted(folder, **changes)))
    name = kind.replace(" ", "-")
    found, expected = started(folder, name), results_of(folder)
    assert {stage: found[stage] for stage in _STAGES} == {stage: expected[stage] for stage in _STAGES}
    for stage in ("iteration-0", "iteration-2"):
        saved = weights_of(folder / "runs" / name, stage)
        assert saved == weights_of(folder / "runs/run", stage) and len(saved) == 2
    assert found["warm_up_from"]["run"] == str(folder / "runs/run")
    assert found["warm_up_from"]["stage"] == "warm-up"
    assert len({*found["warm_up_from"]["sha256"].values()}) == 2
    records = [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").open()]
    assert not any(r["event"] == "update" and r["stage"] == "warm_up" for r in records)
    kept = yaml.safe_load((folder / "runs" / name / "config.yaml").read_text())["warm_up"]
    assert kept["from"] == str(folder / "runs/run") and kept["selector"] is kept["generator"] is None


def test_any_stage_that_was_kept_can_be_started_from(base: Path) -> None:
    expected = results_of(base)
    found = started(base, "later", "iterations=0", start="run/checkpoints/iteration-1")
    later = {key: value for key, value in expected["iterations"][0].items() if key not in _ITS_OWN}
    assert later.items() <= found["warm_up"].items() and found["warm_up_from"]["stage"] == "iteration-1"
    found = started(base, "best-of-it", "iterations=0", start="run/best")
    stage = (base / "runs/run/best").resolve().name
    assert found["warm_up_from"]["stage"] == ("warm-up" if stage == "iteration-0" else stage)


def test_one_adapter_pair_serves_a_shared_backbone_and_two(tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(adapted(tmp_path, checkpoints=_KEPT)))
    apart, shared = (
        started(tmp_path, name, f"shared_backbone={name == 'shared'}") for name in ("apart", "shared")
    )
    assert apart["iterations"] == shared["iterations"]


_OTHERS = {
    "selector.k=2": "selector.k is 2 here and was 3 in",
    "top_n=5": "top_n is 5 here and was 6 in",
    "generator.prompt=generator": "generator.prompt is 'generator' here and was 'tiny-generator' in",
    "selector.model=tiny:base": "selector.model is 'tiny:base' here",
    "selector.adapter=lora": "selector.adapter is {",
    "generator.order=retriever": "generator.order is 'retriever' here",
    "selector.chat_template=none": "selector.chat_template is 'none' here and was None in",
    "name=run": "is this run's own folder",
    "cross_fitted=true": "warm_up.from: does not go with cross_fitted",
}


@pytest.mark.parametrize("override", _OTHERS)
def test_a_pair_that_was_taught_something_else_is_refused_by_its_key(base: Path, override: str) -> None:
    # With `overwrite`, so that a run that would start from itself does not empty its folder first.
    where = f"warm_up.from={base}/runs/run"
    before = weights_of(base / "runs/run", "iteration-0")
    with pytest.raises(ConfigError, match=r"warm_up\.from: ") as refused:
        words = [where, "name=refused", override]
        ragdro.run(ragdro.load_config(base / "config.yaml", words), overwrite=True)
    assert _OTHERS[override] in str(refused.value) and "\n" not in str(refused.value)
    assert not (base / "runs/refused").exists() and weights_of(base / "runs/run", "iteration-0") == before


def test_what_only_says_how_it_is_computed_may_differ(base: Path) -> None:
    free = ("selector.gradient_checkpointing=true", "generator.passage_tokens=20", "objective=dro-centered")
    assert started(base, "free", *free, "iterations=0", "train_generator=false")["warm_up_from"]


@pytest.mark.parametrize(
    ("start", "error", "said"),
    [
        ("nothing", ConfigError, "neither a run folder nor one of its stages"),
        ("run/checkpoints/iteration-9", ModelError, "no such checkpoint"),
        ("run/checkpoints", ConfigError, "neither a run folder"),
    ],
)
def test_what_is_no_stage_is_refused(base: Path, start: str, error: type[RagdroError], said: str) -> None:
    with pytest.raises(error, match=said):
        started(base, "no-stage", start=start)


def test_a_pair_that_has_changed_since_is_noticed_when_the_run_resumes(tmp_path: Path) -> None:
    path = write_config(tmp_path, checkpoints=_KEPT)
    ragdro.run(ragdro.load_config(path))
    shutil.copytree(tmp_path / "runs/run", tmp_path / "runs/other", symlinks=True)
    config = ragdro.load_config(path, [f"warm_up.from={tmp_path}/runs/other", "name=next"])

    class Stop(Callback):
        def on_update(self, stage: str, role: str, update: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ragdro.run(config, callbacks=[Stop()])
    weights = tmp_path / "runs/other/checkpoints/iteration-0/selector/model.safetensors"
    held = weights.read_bytes()
    shutil.copy(tmp_path / "runs/run/checkpoints/iteration-2/selector/model.safetensors", weights)
    with pytest.raises(TrainingError, match="is not what the run began with"):
        ragdro.run(config, resume=True)
    weights.write_bytes(held)
    found, expected = ragdro.run(config, resume=True), results_of(tmp_path)
    assert {stage: found[stage] for stage in _STAGES} == {stage: expected[stage] for stage in _STAGES}


_WHOLE = ["generator.answer_tokens=12", "generator.passage_tokens=64", "selector.passage_tokens=64"]
"""Nothing is cut."""


def command(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [words[0], str(folder / "config.yaml"), *_WHOLE, *words[1:]])


def test_dry_run_and_plan_know_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    start = f"warm_up.from={base}/runs/run"
    done = command(base, "train", start, "name=dry", "--dry-run")
    assert "(warm-up); no warm-up" in done.stdout and "0 problems" in done.stdout
    done = command(base, "train", start, "name=dry", "--dry-run", "selector.k=2")
    assert "selector.k is 2 here and was 3" in done.stdout and "1 problem" in done.stdout
    assert command(base, "plan", start, "name=dry").exit_code == 0
    assert isinstance(command(base, "plan", start, "name=dry", "top_n=5").exception, ConfigError)


def test_in_memory_the_way_is_named() -> None:
    rag = pocket_rag()
    settings = TrainingSettings(warm_up=WarmUp.model_validate({"from": "runs/base"}))
    with pytest.raises(ConfigError, match=r"ragdro.load\(RUN, stage='warm-up'\)"):
        ragdro.train(rag.selector, rag.generator, pocket_tasks(2, 5), settings=settings)
