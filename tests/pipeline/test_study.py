"""Studies through the command line: a folder with everything in it, resumed, refused by name."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli import app
from ragdro.errors import RagdroError, TrainingError
from ragdro.studies import work
from ragdro.studies.catalogue import STUDIES
from ragdro.studies.training import ABLATION
from tests.pipeline.test_train import write_config

SMALL = ["data.train_questions=4", "e_step.questions=4", "iterations=1", "evaluation.questions=2"]


def study(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["study", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row[""]: row for row in csv.DictReader(file)}


def test_without_a_name_the_studies_are_listed() -> None:
    lines = study().splitlines()
    assert "ablation" in [line.split()[0] for line in lines]
    assert all(len(line.split()) > 3 for line in lines)


def test_a_study_leaves_everything_and_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = {name: ABLATION.variants[name] for name in ("selector frozen", "both frozen")}
    monkeypatch.setitem(STUDIES, "ablation", replace(ABLATION, variants=two))
    arguments = ["ablation", str(write_config(tmp_path)), *SMALL, "--seeds", "1"]
    assert "selector frozen" in study(*arguments, "--jobs", "2")
    folder = tmp_path / "runs" / "studies" / "ablation"
    for name in ("figure.png", "figure.svg", "study.json"):
        assert (folder / name).stat().st_size > 500
    for name in ("command.sh", "table.md", "index.html"):
        assert f"ragdro study {' '.join(arguments)}" in (folder / name).read_text()
    best = json.loads((folder / "runs/selector-frozen-1/results.json").read_text())["best"]
    row = rows(folder / "table.csv")["selector frozen"]
    assert float(row["bound (nats)"]) == best["bound"]
    assert json.loads((folder / "runs/both-frozen-1/results.json").read_text())["iterations"] == []
    page = (folder / "index.html").read_text()

    with pytest.raises(RagdroError, match="resume=True"):
        study(*arguments)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/results.json")}
    (folder / "runs/both-frozen-1/results.json").unlink()  # what a killed run lacks
    (folder / "index.html").unlink()
    study(*arguments, "--resume")
    assert (folder / "index.html").read_text() == page
    again = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/results.json")}
    assert [path.parent.name for path in times if times[path] != again[path]] == ["both-frozen-1"]


def test_a_study_measures_its_runs_by_itself(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    study("variance", str(config), *SMALL, "data.train_questions=1", "--seeds", "0", "--jobs", "1")
    folder = tmp_path / "runs" / "studies" / "variance"
    measured = json.loads((folder / "measured/trained-0.json").read_text())
    assert [(row["split"], row["m"]) for row in measured] == [
        (split, m) for split in ("training", "held-out") for m in (1, 2, 4, 8, 16)
    ]
    assert all(row["likelihood"] > 0 for row in measured)
    alone = [row for row in measured if row["m"] == 1]  # one sample has all the weight
    assert [row["selector_weighted"] for row in alone] == [row["selector_uniform"] for row in alone]
    with (folder / "table.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(measured)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ablatoin"], "did you mean 'ablation'"),
        (["ablation", "train_selector=true"], "varies train_selector"),
        (["ablation", "seed=3"], "--seeds"),
        (["ablation", "--seeds", "0,x"], "--seeds"),
        (["ablation", "--seeds", "1,1"], "different"),
        (["ablation", "selctor.k=3"], "selctor"),
        (["ablation", "selector.k=9"], "K = 9"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(arguments: list[str], said: str, tmp_path: Path) -> None:
    name, *rest = arguments
    with pytest.raises(RagdroError, match=said) as refused:
        study(name, str(write_config(tmp_path)), *rest)
    assert refused.value.exit_code == 2 and not (tmp_path / "runs").exists()


def test_a_run_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    config = str(write_config(tmp_path))
    (tmp_path / "corpus.jsonl").write_text("")
    with pytest.raises(TrainingError, match=r"-0: ended with exit code 2: .*corpus\.jsonl"):
        study("ablation", config, *SMALL, "--seeds", "0")


def test_a_run_that_never_began_is_named(tmp_path: Path) -> None:
    job = work.Job("dro-0", ("ragdro",), 1, lambda: 0, tmp_path / "dro-0.log")
    with pytest.raises(TrainingError, match="dro-0: ended with exit code 1: it said nothing"):
        work._refuse_failure(job, 1)


def test_a_terminated_study_leaves_no_process_behind(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    arguments = ["ablation", str(config), "data.train_questions=4", "iterations=500", "--seeds", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ragdro", "study", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "STUDY_OF": str(tmp_path),
            "PYTHONFAULTHANDLER": "1",
        },  # what it starts inherits it
    )
    log = tmp_path / "runs/studies/ablation/runs/both-trained-0/metrics.jsonl"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert len(started_by(tmp_path)) >= 3  # the study, what it forks from, its run
    process.send_signal(signal.SIGTERM)
    try:
        _, output = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        for one in started_by(tmp_path):  # each says where it is
            os.kill(int(one), signal.SIGABRT)
        pytest.fail(f"it does not end: {process.communicate()[1]}")
    assert process.returncode == 75 and "--resume" in output
    for _ in range(200):
        if not started_by(tmp_path):
            return
        time.sleep(0.05)
    assert not started_by(tmp_path)


def started_by(folder: Path) -> list[str]:
    """Processes of the study whose environment names `folder`."""
    ids = []
    for entry in Path("/proc").iterdir():
        try:
            if f"STUDY_OF={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                ids.append(entry.name)
        except OSError:  # no process, not ours, or gone meanwhile
            continue
    return ids
