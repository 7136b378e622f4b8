"""Where a run's relative paths lead when it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.config import Config, dump_config, load_config
from ragdro.config.resume import first_difference, located, root_of

ROOT = Path(__file__).parents[3]


def config(runs: str) -> Config:
    overrides = ["data.train=mine.jsonl", f"runs={runs}", "name=one"]
    return load_config(ROOT / "configs/tiny.yaml", overrides)


@pytest.mark.parametrize("runs", ["runs", "{other}", "../elsewhere"])
def test_a_run_resumes_where_it_began_wherever_its_folder_lies(
    runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine.jsonl").touch()
    monkeypatch.chdir(here)
    began = config(runs.format(other=tmp_path / "other"))
    folder = Path(began.runs) / began.name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(began))
    saved = located(load_config(folder / "config.yaml"), folder)
    assert saved.data.train == str(here / "mine.jsonl")
    assert first_difference(saved, located(began)) is None


def test_a_run_with_relative_paths_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert root_of(tmp_path / "a" / "runs" / "one", config("runs")) == tmp_path / "a"
