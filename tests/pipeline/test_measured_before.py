"""A run from another's warm-up takes what that run measured of it, and only where that is still so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ragdro
from ragdro.config import Config
from ragdro.evaluation.evaluate import evaluate
from ragdro.runs.measured import measured_before
from ragdro.runs.setup import load_splits
from ragdro.runs.warm_start import warm_start
from ragdro.training import evaluate as module
from tests.pipeline.test_train import jsonl, write_config

STAGES = ("vanilla_rag", "warm_up")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, test questions, and the run of its warm-up, `runs/run`."""
    folder = tmp_path_factory.mktemp("project")
    write_config(folder, checkpoints={"keep": "all"})
    questions = [json.loads(line) for line in (folder / "train.jsonl").open()]
    jsonl(folder / "test.jsonl", [{**q, "id": f"test-{q['id']}"} for q in questions])
    ragdro.run(config_of(folder, "name=run", "iterations=0"))
    return folder


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """The run's folder, in a copy of the project's runs that a test may change."""
    return Path(shutil.copytree(project / "runs/run", tmp_path / "runs/run", symlinks=True))


def config_of(folder: Path, *overrides: str) -> Config:
    test = f"data.test={folder}/test.jsonl"
    return ragdro.load_config(folder / "config.yaml", [test, *overrides])


def events(log: Path) -> list[tuple[str, str]]:
    return [(one["event"], one["stage"]) for one in map(json.loads, log.open())]


def known_stages(config: Config) -> set[str]:
    """The stages that need no measuring."""
    _, _, test = load_splits(config)
    return set(measured_before(config, warm_start(config), test or []))


def test_the_ablation_of_a_warm_up_predicts_its_test_questions_for_its_iteration_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def counted(prediction: Any, own: Any) -> Any:
        asked.append(prediction.task.question.id)
        return evaluate(prediction, own)

    monkeypatch.setattr(module, "score_prediction", counted)
    changes = ("iterations=1", "train_selector=false", f"warm_up.from={project}/runs/run")
    taken = ragdro.run(config_of(project, "name=taken", *changes))
    assert sorted(name for name in asked if name.startswith("test-")) == [f"test-q{i}" for i in range(4)]
    assert "as that run measured them" in capsys.readouterr().err
    asked.clear()
    monkeypatch.setattr("ragdro.runs.run.measured_before", lambda *arguments: {})
    anew = ragdro.run(config_of(project, "name=anew", *changes))
    assert taken == anew and len([name for name in asked if name.startswith("test-")]) == 12
    assert "as that run measured them" not in capsys.readouterr().err
    for path in sorted((project / "runs/anew").glob("predictions-*.jsonl")):
        assert path.read_bytes() == (project / "runs/taken" / path.name).read_bytes()
    taken_log, anew_log = (project / "runs" / name / "metrics.jsonl" for name in ("taken", "anew"))
    assert events(taken_log) == events(anew_log)


@pytest.mark.parametrize(
    "override",
    [
        *("seed=1", "iterations=5", "objective=dro-centered", "train_generator=false", "e_step.samples=2"),
        *("m_step.selector.learning_rate=1e-4", "evaluation.test=best", "evaluation.samples=2"),
        *("data.train_questions=2", "threads=1", "evaluation.max_tokens_per_micro_batch=500"),
        "selector.attention=eager",  # rounding alone differs
    ],
)
def test_what_changes_no_greedy_answer_leaves_them_known(project: Path, override: str) -> None:
    start = f"warm_up.from={project}/runs/run"
    assert known_stages(config_of(project, "name=other", start, override)) == set(STAGES)


@pytest.mark.parametrize(
    "override",
    [
        *("generator.passage_tokens=20", "generator.answer_tokens=5", "selector.question_tokens=12"),
        *("objective=sft", "objective=marginal", "evaluation.questions=3", "retriever.k1=0.5"),
        "evaluation.metrics=['ragdro.evaluation.metrics:exact_match']",
        "data.test=null",
    ],
)
def test_with_another_setting_they_are_measured_anew(project: Path, override: str) -> None:
    start = f"warm_up.from={project}/runs/run"
    assert known_stages(config_of(project, "name=other", start, override)) == set()


def _edited(key: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda question: {**question, key: value(question[key])}


@pytest.mark.parametrize(
    "edit",
    [
        _edited("question", str.upper),
        _edited("answers", lambda answers: [*answers, "Firm"]),
        _edited("hops", lambda hops: hops + 1),
        _edited("id", lambda name: f"{name}-new"),
        _edited("passages", lambda passages: [{**passages[0], "gold": False}]),
    ],
)
def test_other_questions_are_measured_anew(
    project: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    start, test = f"warm_up.from={project}/runs/run", tmp_path / "test.jsonl"
    lines = [json.loads(line) for line in (project / "test.jsonl").open()]
    held = (project / "test.jsonl").read_bytes()
    jsonl(test, [*lines[:-1], edit(lines[-1])])
    try:
        shutil.copy(test, project / "test.jsonl")
        assert known_stages(config_of(project, "name=other", start)) == set()
    finally:
        (project / "test.jsonl").write_bytes(held)
    assert known_stages(config_of(project, "name=other", start)) == set(STAGES)


def test_another_text_of_a_passage_is_measured_anew(project: Path) -> None:
    start, corpus = f"warm_up.from={project}/runs/run", project / "corpus.jsonl"
    held = corpus.read_text()
    try:
        corpus.write_text(held.replace("which is in", "which lies in"))
        assert known_stages(config_of(project, "name=other", start)) == set()
    finally:
        corpus.write_text(held)


def test_a_candidate_that_nobody_read_counts_too(project: Path) -> None:
    config = config_of(project, "name=other", f"warm_up.from={project}/runs/run")
    start, test = warm_start(config), load_splits(config)[2]
    assert test is not None and set(measured_before(config, start, test)) == set(STAGES)
    read: dict[str, set[str]] = {}
    for stage in STAGES:
        for line in (project / f"runs/run/predictions-{stage}.jsonl").open():
            record = json.loads(line)
            read.setdefault(record["id"], set()).update(one["id"] for one in record["selection"])
    changed = 0
    for number, task in enumerate(test):
        for place, passage in enumerate(task.candidates.passages):
            if passage.id not in read[task.question.id]:
                passages = list(task.candidates.passages)
                passages[place] = replace(passage, text=f"{passage.text} Firm")
                other = replace(task, candidates=replace(task.candidates, passages=tuple(passages)))
                assert not measured_before(config, start, [*test[:number], other, *test[number + 1 :]])
                changed += 1
    assert changed


@pytest.mark.parametrize("differs", ["commit", "ragdro", "a later session", "nothing that is noted"])
def test_what_other_code_measured_is_measured_anew(project: Path, copy: Path, differs: str) -> None:
    config, path = config_of(project, f"warm_up.from={copy}"), copy / "environment.json"
    noted = json.loads(path.read_text())
    assert known_stages(config) == set(STAGES)
    if differs == "nothing that is noted":
        path.unlink()
    else:
        packages = {**noted["packages"], "ragdro": "0.0.1"}
        changed = {"packages": packages} if differs == "ragdro" else {"commit": "0" * 40}
        made = {**noted, "resumed": [changed]} if differs == "a later session" else {**noted, **changed}
        path.write_text(json.dumps(made))
    assert known_stages(config) == set()
    path.write_text(json.dumps({**noted, "resumed": [{"command": ["ragdro", "train", "--resume"]}]}))
    assert known_stages(config) == set(STAGES)


def test_a_model_may_be_named_by_another_path(project: Path, tmp_path: Path) -> None:
    (tmp_path / "same").symlink_to(project / "model")
    start = f"warm_up.from={project}/runs/run"
    assert known_stages(config_of(project, "name=other", start, f"generator.model={tmp_path}/same")) == set(
        STAGES
    )


def test_what_is_damaged_gone_or_of_another_stage_is_measured_anew(project: Path, copy: Path) -> None:
    config = config_of(project, f"warm_up.from={copy}")
    assert known_stages(config) == set(STAGES)
    (copy / "predictions-vanilla_rag.jsonl").unlink()
    assert known_stages(config) == {"warm_up"}
    path = copy / "predictions-warm_up.jsonl"
    for text in (path.read_text()[:-20], path.read_text().replace('"id"', '"key"'), "[]\n"):
        path.write_text(text)
        assert known_stages(config) == set()
    shutil.copytree(project / "runs/run/checkpoints/iteration-0", copy / "checkpoints/iteration-1")
    later = config_of(project, f"warm_up.from={copy}/checkpoints/iteration-1")
    shutil.copy(project / "runs/run/predictions-warm_up.jsonl", path)
    assert known_stages(config) == {"warm_up"} and known_stages(later) == set()
