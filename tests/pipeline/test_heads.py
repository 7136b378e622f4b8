"""A run whose selector goes by its model's attention: plan, training, resume, loading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import ragdro
from ragdro.errors import ModelError
from ragdro.lm.heads import HeadWeights
from ragdro.report.plan import plan_config
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome
from tests.pipeline.test_train import write_config

FIT = {"learning_rate": 1e-3, "projection_learning_rate": 0.05, "epochs": 4, "batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config of a frozen pointer, and its run."""
    made = tmp_path_factory.mktemp("heads")
    path = write_config(made)
    values = yaml.safe_load(path.read_text())
    pointer = {"score": "attention", "frozen": True}
    values["selector"] |= {"kind": "pointer", "prompt": "tiny-pointer", "pointer": pointer}
    values["warm_up"] = {**values.get("warm_up", {}), "selector": FIT}
    values["m_step"] = {**values.get("m_step", {}), "selector": FIT}
    values |= {"iterations": 1, "checkpoints": {"every": 2, "keep": "all"}}
    path.write_text(yaml.safe_dump(values))
    ragdro.run(ragdro.load_config(path, ["name=whole"]))
    return made


def test_what_is_saved_is_what_was_trained_and_answers_the_same(folder: Path) -> None:
    run = folder / "runs/whole"
    stages = [run / f"checkpoints/iteration-{i}/selector" for i in (0, 1)]
    first, second = (load_file(stage / "projections.safetensors") for stage in stages)
    assert set(first) == {"heads", "bias"} and (first["heads"] != 0).any()
    assert (first["heads"] != second["heads"]).any()
    models = [load_file(stage / "model.safetensors") for stage in stages]
    assert all((models[0][name] == models[1][name]).all() for name in models[0])
    rag = ragdro.load(run)
    weights = rag.selector.model.projections
    best = json.loads((run / "results.json").read_text())["best"]["iteration"]
    assert isinstance(weights, HeadWeights)
    assert (weights.heads.detach() == (first, second)[best]["heads"]).all()


def test_a_run_that_is_killed_ends_as_one_that_never_was(folder: Path) -> None:
    killed = Command(
        folder, "train", str(folder / "config.yaml"), "name=killed", prepare=die_at_sync, given=9
    )
    assert killed.wait() == KILLED, killed.said
    resumed = Command(folder, "train", str(folder / "config.yaml"), "name=killed", "--resume")
    assert resumed.wait() == 0, resumed.said
    assert outcome(folder / "runs/killed") == outcome(folder / "runs/whole")


def test_a_plan_has_no_gradients_of_a_frozen_model(folder: Path) -> None:
    phases = {}
    for frozen in (True, False):
        config = ragdro.load_config(
            folder / "config.yaml", [f"selector.pointer.frozen={str(frozen).lower()}"]
        )
        phases[frozen] = plan_config(config, 4)["phases"]["selector update"]
    assert phases[True]["gradients"] < 0.01 * phases[False]["gradients"]
    assert phases[True]["flops"] < 0.5 * phases[False]["flops"]


def test_a_plan_of_one_that_goes_by_states(folder: Path) -> None:
    changes = ["selector.pointer.score=states", "selector.pointer.frozen=false"]
    phases = plan_config(ragdro.load_config(folder / "config.yaml", changes), 4)["phases"]
    assert phases["selector update"]["gradients"] > 0


def test_weights_of_heads_are_not_taken_for_projections(folder: Path) -> None:
    saved = folder / "runs/whole/checkpoints/iteration-0/selector"
    config = ragdro.load_config(
        folder / "config.yaml", ["name=other", f"selector.model={saved}", "selector.pointer.score=states"]
    )
    with pytest.raises(ModelError, match=r"by attention; set selector\.pointer\.score: attention"):
        ragdro.run(config)
