"""Runs whose passages are in a database, through the command line: filled, checked, trained, written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ragdro
from ragdro.cli import app
from ragdro.planning.preflight import preflight
from tests.databases import Postgres
from tests.pipeline.test_train import write_config


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("kind", ["postgres", "qdrant"])
def test_a_run_on_a_database(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"kind": kind, "path": str(tmp_path / "qdrant")}
    if kind == "postgres":
        settings = {"kind": kind, "dsn": "$WIKI_DSN"}
        dsn = request.getfixturevalue("postgres").database()
        monkeypatch.setenv("WIKI_DSN", f"{dsn}&password=S3cret")
    config = write_config(tmp_path, retriever=settings, iterations=1)
    set_ = [word for key, value in settings.items() if key != "kind" for word in ("--set", f"{key}={value}")]
    cache = ["--cache", str(tmp_path / "cache")]

    (unfilled,) = [f for f in preflight(ragdro.load_config(config)) if f.check == "retriever"]
    assert unfilled.level == "problem" and "ragdro index" in unfilled.text
    filled = call("index", "--kind", kind, *set_, "--corpus", str(tmp_path / "corpus.jsonl"), *cache)
    assert "9 passages" in filled.output
    findings = {f.check: (f.level, f.text) for f in preflight(ragdro.load_config(config))}
    assert findings["passages"][0] == "ok" and findings["passages"][1].endswith(": 9 passages")
    assert "retriever" not in findings

    call("train", str(config))
    run = tmp_path / "runs" / "run"
    assert json.loads((run / "results.json").read_text())["vanilla_rag"]["questions"] == 2
    asked = call("answer", str(run), "Where does Mara4 work?", "--json")
    assert "Firm 4" in asked.stdout
    call("data", "passages", "--kind", kind, *set_, "--out", str(tmp_path / "out.jsonl"))
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    corpus = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    assert sorted(records, key=lambda r: r["id"]) == corpus
    files = [*run.rglob("*"), *(tmp_path / "cache").rglob("*")]
    assert files and not any(b"S3cret" in file.read_bytes() for file in files if file.is_file())


def test_a_server_that_is_away_is_a_problem_before_the_run(
    tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKI_DSN", "host=127.0.0.1 port=1 dbname=wiki password=S3cret")
    retriever = {"kind": "postgres", "dsn": "$WIKI_DSN", "retries": 0}
    config = write_config(tmp_path, retriever=retriever)
    done = CliRunner().invoke(app, ["train", str(config), "--dry-run", "--strict"])
    printed = " ".join(done.output.split())
    assert done.exit_code != 0 and "PostgreSQL at 127.0.0.1:1, database wiki (retriever.dsn)" in printed
    assert "S3cret" not in printed
