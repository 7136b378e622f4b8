"""Where a run's relative paths lead when it resumes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ragdro.cli.checks import require_parts
from ragdro.cli.place import settings_of
from ragdro.config import Config, dump_config, load_config
from ragdro.config.resume import STARTED_IN, first_difference, located, resumed, root_of
from ragdro.errors import ConfigError, DataError
from ragdro.report.history import read_history
from ragdro.runs.folder import RunFolder
from ragdro.runs.searching import retriever_of
from ragdro.runs.stages import config_of
from ragdro.runs.status import refuse_another_run

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
    folder = begin(began).resolve()
    asked_here = located(began)
    for place in (here, tmp_path):
        monkeypatch.chdir(place)
        saved = located(began, root_of(folder, load_config(folder / "config.yaml")))
        assert saved.data.train == str(here / "mine.jsonl")
        assert first_difference(saved, asked_here) is None


@pytest.mark.parametrize("linked", ["runs", "runs/one"])
@pytest.mark.parametrize("afterwards", [False, True])
def test_a_run_behind_a_link_resumes_from_anywhere(
    afterwards: bool, linked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of runs on another disk, whether linked from the start or moved there."""
    home, disk = tmp_path / "home", tmp_path / "disk" / linked
    home.mkdir(), disk.parent.mkdir(parents=True)
    (home / "mine.jsonl").touch()
    monkeypatch.chdir(home)
    if afterwards:
        begin(config("runs"))
        Path(linked).rename(disk)
        Path(linked).symlink_to(disk)
    else:
        disk.mkdir()
        Path(linked).parent.mkdir(exist_ok=True)
        Path(linked).symlink_to(disk)
        begin(config("runs"))
    moved = home.rename(tmp_path / "moved") if afterwards else home
    for place in (moved, tmp_path):
        monkeypatch.chdir(place)
        resumed = settings_of(moved / "runs/one", [], resume=True)
        assert resumed.data.train == str(moved / "mine.jsonl")
        refuse_another_run(resumed)
    if not afterwards:
        assert settings_of(tmp_path / "disk/runs/one", [], resume=True).data.train == str(home / "mine.jsonl")


def test_a_run_folder_is_a_config_to_resume_with_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir(), other.mkdir()
    (home / "mine.jsonl").touch()
    monkeypatch.chdir(home)
    (home / "my.yaml").write_text(dump_config(config("runs")))
    folder = begin(config("runs"))
    monkeypatch.chdir(other)
    for given in (Path("../home/runs/one"), Path("../home/my.yaml")):
        resumed = settings_of(given, ["iterations=9"], resume=True)
        assert resumed.data.train == str(home / "mine.jsonl") and resumed.iterations == 9
        assert (Path(resumed.runs) / resumed.name).resolve() == home / folder
        assert resumed.cache == str(home / config("runs").cache)
        assert first_difference(located(config("runs"), home), resumed) is None
    monkeypatch.chdir(home / folder)
    assert settings_of(Path(), [], resume=True).name == "one"
    for given, overrides, resume, said in (
        (home / folder, [], False, r"is a run folder; resume it: ragdro train .*/runs/one --resume"),
        (home / folder, ["name=two"], True, "name=two: .*/runs/one is resumed as it is"),
        (home / "my.yaml", [], False, rf"data.train: mine.jsonl: no such file here; .*: cd {home}$"),
    ):
        with pytest.raises(ConfigError, match=said):
            settings_of(given, overrides, resume=resume)


@pytest.mark.parametrize("given", ["runs/one", "runs/one/", ".", "linked", "moved"])
def test_a_run_keeps_its_name_however_its_folder_is_given(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = begin(config("runs"))
    Path("linked").symlink_to(folder)
    if given == ".":
        monkeypatch.chdir(folder)
    if given == "moved":  # to another disk
        folder.rename("another")
        folder.symlink_to(tmp_path / "another")
        given = "runs/one"
    resumed = settings_of(Path(given), [], resume=True)
    assert resumed.name == read_history(Path(given)).name == "one"
    assert (Path(resumed.runs) / "one").resolve() == (tmp_path / folder).resolve()


def test_a_run_whose_folder_was_renamed_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    renamed = begin(config("runs")).rename("runs/two")
    assert settings_of(renamed, [], resume=True).name == read_history(renamed).name == "two"


@pytest.mark.parametrize("runs", ["../kept", "{home}/kept", "runs"])
@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_project_that_was_moved_or_copied_resumes_with_its_own_data(
    how: str, runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one's must not be read where both are there."""
    home = tmp_path / "home"
    (home / "code").mkdir(parents=True)
    (home / "code/mine.jsonl").touch()
    monkeypatch.chdir(home / "code")
    folder = begin(config(runs.format(home=home))).resolve().relative_to(home)
    other = tmp_path / "far/away"
    shutil.copytree(home, other, symlinks=True)
    monkeypatch.chdir(tmp_path)
    if how == "moved":
        shutil.rmtree(home)
    assert settings_of(other / folder, [], resume=True).data.train == str(other / "code/mine.jsonl")
    assert config_of(other / folder).data.train == str(other / "code/mine.jsonl")


def test_a_run_that_was_moved_alone_finds_the_data_where_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what lies beside it is called as the project was; a note of an earlier version, too."""
    home, other = tmp_path / "home", tmp_path / "far/disk"
    home.mkdir(), (tmp_path / "far/home").mkdir(parents=True)
    (home / "mine.jsonl").touch()
    monkeypatch.chdir(home)
    folder = begin(config("../disk"))
    shutil.move(folder.parent, other)
    monkeypatch.chdir(tmp_path)
    for note in ((other / "one" / STARTED_IN).read_text(), str(home)):
        (other / "one" / STARTED_IN).write_text(note)
        assert settings_of(other / "one", [], resume=True).data.train == str(home / "mine.jsonl")


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_absolute_paths_move_with_the_project_that_they_are_in(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy reads what the original reads, as long as that is there; what is nowhere is named by its key."""
    home, other, cache = tmp_path / "home", tmp_path / "far/away", tmp_path / "home/cache"
    (home / "data").mkdir(parents=True), cache.mkdir()
    (home / "data/mine.jsonl").touch(), (home / "corpus.jsonl").touch()
    monkeypatch.chdir(home)
    paths = {"data.train": home / "data/mine.jsonl", "data.corpus": home / "corpus.jsonl", "cache": cache}
    overrides = [f"{key}={path}" for key, path in paths.items()]
    began = load_config(ROOT / "configs/tiny.yaml", [*overrides, "runs=runs", "name=one"])
    folder = begin(began)
    shutil.copytree(home, other)
    if how == "moved":
        shutil.rmtree(home)
        monkeypatch.chdir(other)  # `runs` is relative
    there = other if how == "moved" else home
    for place in (other, tmp_path):
        monkeypatch.chdir(place)
        for read in (config_of(other / folder), settings_of(other / folder, [], resume=True)):
            assert read.data.train == str(there / "data/mine.jsonl")
            assert read.data.corpus == str(there / "corpus.jsonl") and read.cache == str(there / "cache")
        refuse_another_run(settings_of(other / folder, [], resume=True))
    for lost in {there, other}:
        (lost / "corpus.jsonl").unlink()
    gone = config_of(other / folder)
    with pytest.raises(DataError, match=rf"^data\.corpus: {home}/corpus\.jsonl: no such file; "):
        retriever_of(gone)
    with pytest.raises(DataError, match=rf"^data\.corpus: {home}/corpus\.jsonl: no such file; "):
        require_parts(gone.model_copy(update={"data": gone.data.model_copy(update={"train": "tiny:train"})}))


@pytest.mark.parametrize("given", ["home/runs/one", "home/my.yaml"])
def test_paths_of_overrides_start_where_the_command_does(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.jsonl").touch(), (home / "other.jsonl").touch()
    monkeypatch.chdir(home)
    Path("my.yaml").write_text(dump_config(config("runs")))
    begin(config("runs"))
    monkeypatch.chdir(tmp_path)
    for override in ("data.train=other.jsonl", "data={train: tiny:train, validation: other.jsonl}"):
        with pytest.raises(DataError, match=r"^other\.jsonl: no such file; "):
            settings_of(Path(given), [override], resume=True)
    (tmp_path / "other.jsonl").write_text('{"question": "Q?", "answers": ["a"]}\n')
    resumed = settings_of(Path(given), ["data.train=other.jsonl", "cache=here"], resume=True)
    assert resumed.data.train == str(tmp_path / "other.jsonl") and resumed.cache == str(tmp_path / "here")
    assert resumed.data.validation == config("runs").data.validation
    (home / "mine.jsonl").write_text('{"question": "Q?", "answers": ["a"]}\n')
    refuse_another_run(settings_of(Path(given), ["data.train=home/mine.jsonl"], resume=True))
    with pytest.raises(ConfigError, match=r"data\.train: the run began with '.*mine\.jsonl', not '.*other"):
        refuse_another_run(resumed)


def test_a_config_of_the_usual_name_makes_no_run_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(dump_config(config("runs")))
    with pytest.raises(
        ConfigError, match="is a folder, neither a config file nor a run to resume; name a file in it: ls "
    ):
        settings_of(tmp_path, [], resume=True)
    assert settings_of(Path("config.yaml"), [], resume=True) == config("runs")


def begin(began: Config) -> Path:
    """The folder of a run as it is when it has begun."""
    folder = Path(began.runs) / began.name
    folder.mkdir(parents=True, exist_ok=True)
    RunFolder(began).begin(resume=False)
    return folder


def test_a_run_with_relative_paths_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert root_of(tmp_path / "a" / "runs" / "one", config("runs")) == tmp_path / "a"


@pytest.mark.parametrize(
    ("engine", "key", "before", "now"),
    [
        ("kind: vllm", "arguments", "{}", "{max_model_len: 8192}"),
        ("kind: vllm", "arguments", "{max_model_len: 8192}", "{enforce_eager: true}"),
        ('kind: openai-compatible, url: "http://h/v1", model: m', "headers", "{}", "{Authorization: $KEY}"),
    ],
)
def test_a_mapping_that_may_change_has_other_keys_where_a_run_resumes(
    engine: str, key: str, before: str, now: str
) -> None:
    def with_engine(mapping: str) -> Config:
        return load_config(ROOT / "configs/tiny.yaml", [f"e_step.engine={{{engine}, {key}: {mapping}}}"])

    began, asked = with_engine(before), with_engine(now)
    assert first_difference(began, asked) is None
    assert resumed(began, asked).e_step.engine == asked.e_step.engine != began.e_step.engine
