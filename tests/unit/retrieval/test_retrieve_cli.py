"""`ragdro index` and `ragdro retrieve`, through Typer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ragdro.cli import retrieve as module
from ragdro.config.retriever import Bm25Settings
from ragdro.errors import ConfigError, DataError, RetrievalError
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.candidates import read_candidates
from tests.unit.retrieval.conftest import generated_corpus, generated_questions

QUESTIONS = generated_questions(5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = [{"id": p.id, "title": p.title, "text": p.text} for p in generated_corpus(30)]
    asked = [{"id": q.id, "question": q.question} for q in QUESTIONS]
    for name, records in (("corpus", corpus), ("questions", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path


def run(*arguments: object) -> None:
    app = typer.Typer()
    app.command()(module.index)
    app.command()(module.retrieve)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception


def test_index_then_retrieve(folder: Path) -> None:
    corpus, out = folder / "corpus.jsonl", folder / "candidates.jsonl"
    run("index", "--corpus", corpus, "--out", folder / "index", "--set", "k1=0.9", "--set", "stopwords=null")
    asked = ("retrieve", "--questions", folder / "questions.jsonl", "--out", out, "--top-n", 4)
    run(*asked, "--index", folder / "index")
    settings = Bm25Settings(k1=0.9, stopwords=None)
    expected = cached_candidates(QUESTIONS, corpus, settings, 4, folder / "cache")
    assert list(read_candidates(out)) == expected
    run("index", "--corpus", corpus, "--out", folder / "index", "--set", "k1=0.9", "--set", "stopwords=null")
    with pytest.raises(RetrievalError, match="already holds an index"):
        run("index", "--corpus", corpus, "--out", folder / "index")
    with pytest.raises(ConfigError, match="leave out --corpus"):
        run(*asked, "--index", folder / "index", "--corpus", corpus)


def test_retrieve_through_the_cache_with_a_settings_file(folder: Path) -> None:
    (folder / "retriever.yaml").write_text("b: 0.3\n")
    out, cache = folder / "candidates.jsonl", folder / "cache"
    asked = ("retrieve", "--questions", folder / "questions.jsonl", "--out", out, "--cache", cache)
    run(*asked, "--corpus", folder / "corpus.jsonl", "--settings", folder / "retriever.yaml", "--top-n", 3)
    before = sorted(path.name for path in cache.rglob("*.jsonl"))
    expected = cached_candidates(QUESTIONS, folder / "corpus.jsonl", Bm25Settings(b=0.3), 3, cache)
    assert list(read_candidates(out)) == expected
    assert sorted(path.name for path in cache.rglob("*.jsonl")) == before
    with pytest.raises(RetrievalError, match="needs a corpus"):
        run(*asked)


def test_a_bad_corpus_line_leaves_nothing(folder: Path) -> None:
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text() + '{"id": "x", "title": ""}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:31:.*'text'"):
        run("index", "--corpus", corpus, "--out", folder / "index")
    assert not (folder / "index").exists()
    with pytest.raises(ConfigError, match="kind given with these settings has no index"):
        run("index", "--corpus", corpus, "--out", folder / "index", "--kind", "given")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--set", "k3=1"), r"unknown key .retriever\.k3"),
        (("--set", "k1"), "not of the form key=value"),
        (("--set", "k1.x=2"), r"retriever\.k1: must be a number"),
        (("--settings", "absent.yaml"), r"absent\.yaml: no such file"),
    ],
)
def test_bad_settings_are_named(extra: tuple[str, str], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run("index", "--corpus", folder / "corpus.jsonl", "--out", folder / "index", *extra)
    assert not (folder / "index").exists()
