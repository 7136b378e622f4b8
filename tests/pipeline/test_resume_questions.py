"""A run resumes on the questions and passages that it began on; what is refused changes nothing in its
folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ragdro
from ragdro.errors import ConfigError, TrainingError
from ragdro.runs.fingerprint import _without_texts
from ragdro.runs.saved_states import load_values, save_values, state_paths
from ragdro.runs.setup import load_splits
from ragdro.runs.stages import config_of
from ragdro.runs.weighted_lists import weighted_lists
from tests.pipeline.test_train import write_config


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a config, its data, and a finished run of one iteration."""
    ragdro.run(ragdro.load_config(write_config(tmp_path, iterations=1)))
    return tmp_path


def files(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    lines = [json.loads(line) for line in path.open()]
    path.write_text("".join(json.dumps(change(line)) + "\n" for line in lines))


def answered(question: dict[str, Any]) -> dict[str, Any]:
    return {**question, "answers": [*question["answers"], "elsewhere"]}


def unlabelled(question: dict[str, Any]) -> dict[str, Any]:
    return {**question, "passages": [{**one, "gold": False} for one in question["passages"]]}


def rewritten(passage: dict[str, Any]) -> dict[str, Any]:
    return {**passage, "text": passage["text"].replace("which is in", "which lies in")}


@pytest.mark.parametrize(
    ("file", "change"),
    [("corpus.jsonl", rewritten), ("train.jsonl", answered), ("validation.jsonl", unlabelled)],
)
def test_changed_texts_answers_and_labels_are_refused_and_the_folder_stays(
    project: Path, file: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    run, longer = project / "runs/run", ragdro.load_config(project / "config.yaml", ["iterations=2"])
    before, data = files(run), (project / file).read_bytes()
    edit(project / file, change)
    with pytest.raises(TrainingError, match="began on other questions, answers, labels or passages"):
        ragdro.run(longer, resume=True)
    with pytest.raises(ConfigError, match="its questions or passages are others"):
        weighted_lists(run, config_of(run))
    assert files(run) == before
    (project / file).write_bytes(data)
    assert len(ragdro.run(longer, resume=True)["iterations"]) == 2


def test_a_run_that_noted_ids_alone_resumes_and_notes_texts(project: Path) -> None:
    run, longer = project / "runs/run", ragdro.load_config(project / "config.yaml", ["iterations=2"])
    (path,) = state_paths(run / "state")
    noted = load_values(path)
    save_values(run / "state", {**noted, "questions": _without_texts(*load_splits(longer))})
    assert weighted_lists(run, config_of(run))
    ragdro.run(longer, resume=True)
    assert load_values(state_paths(run / "state")[0])["questions"] == noted["questions"]
