"""Only a run is replaced, and none that the new one needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import ConfigError
from ragdro.report.export import export_run
from ragdro.runs.status import CONFIG, RESULTS
from tests.pipeline.test_resume_questions import files
from tests.pipeline.test_train import write_config


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and `runs/run`, a finished run without iterations."""
    folder = tmp_path_factory.mktemp("base")
    ragdro.run(ragdro.load_config(write_config(folder, iterations=0)))
    return folder


def refused(base: Path, *overrides: str, **how: Any) -> str:
    config = ragdro.load_config(base / "config.yaml", overrides)
    before = files(Path(config.runs) / config.name)
    with pytest.raises(ConfigError) as raised:
        ragdro.run(config, **how)
    assert files(Path(config.runs) / config.name) == before
    return str(raised.value)


@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": True}, {}])
def test_a_folder_that_is_no_run_is_left_alone(base: Path, tmp_path: Path, how: dict[str, bool]) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    said = f"name: {tmp_path}/notes is not a run folder (it has no config.yaml); choose another name"
    assert refused(base, f"runs={tmp_path}", "name=notes", **how) == said
    export_run(base / "runs/run", tmp_path / "exported")
    said = f"name: {tmp_path}/exported is not a run folder (an exported one); choose another name"
    assert refused(base, f"runs={tmp_path}", "name=exported", **how) == said


def test_a_file_is_said_to_be_one(base: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    for how in ({"overwrite": True}, {"resume": True}, {}):
        said = refused(base, f"runs={tmp_path}", "name=notes", **how)
        assert said == f"name: {tmp_path}/notes is a file; choose another name"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "seed=1"], "seed: the run began with 0, not 1; "),
        (["--overwrite", "selector.model={base}/runs/run/best/selector"], "which overwrite=True empties"),
        (["--overwrite", "--resume"], "exclude each other"),
    ],
)
def test_a_dry_run_checks_the_folder_too(base: Path, words: list[str], said: str) -> None:
    given = [word.format(base=base) for word in words]
    result = CliRunner().invoke(app, ["train", str(base / "config.yaml"), "--dry-run", *given])
    assert isinstance(result.exception, ConfigError) and said in str(result.exception)


def test_what_a_run_would_begin_from_is_not_emptied(base: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(base / "runs/run", run, symlinks=True)
    (run / "questions").symlink_to(base / "train.jsonl")
    for override in (f"selector.model={run}/best/selector", f"data.train={run}/questions"):
        key, _, path = override.partition("=")
        said = refused(base, f"runs={tmp_path}", override, overwrite=True)
        assert said == f"{key}: {path} is in {run}, which overwrite=True empties; give the run another name"
    config = ragdro.load_config(base / "config.yaml", [f"runs={tmp_path}", f"cache={run}/cache"])
    assert ragdro.run(config, overwrite=True)


def test_a_replacement_that_is_killed_leaves_a_run_that_is_not_done(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(base / "runs/run", tmp_path / "run", symlinks=True))
    config = ragdro.load_config(base / "config.yaml", [f"runs={tmp_path}", "iterations=0"])
    remove, removed = Path.unlink, list[str]()

    def killed(path: Path, **how: bool) -> None:
        if path.parent == run:
            removed.append(path.name)
        if path.name == CONFIG:
            raise KeyboardInterrupt
        remove(path, **how)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        ragdro.run(config, overwrite=True)
    monkeypatch.undo()
    assert removed[0] == RESULTS and [p.name for p in run.iterdir() if p.name != ".lock"] == [CONFIG]
    assert ragdro.run(config, overwrite=True) == ragdro.run(config, resume=True)
