"""A run's verdict and diagnosis through the command line, on a small untrained pair."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import RagdroError
from ragdro.report.evidence import read_evidence
from tests.pipeline.test_train import jsonl, write_config


def invoke(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_a_run_is_judged_diagnosed_and_reported(tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(write_config(tmp_path), ["iterations=1"]))
    run = tmp_path / "runs/run"
    evidence = read_evidence(run)
    assert evidence.split == "validation" and evidence.questions == 2 and evidence.iterations == 1
    assert evidence.training["stage"] == "iteration-1" and evidence.held_out["stage"] == "warm_up"
    assert evidence.cut["selector.passage_tokens"] == 1.0 and evidence.ceiling is not None
    said = invoke("report", str(run))
    assert "validation questions" in said.split("page: ")[1]  # the verdict comes last
    assert "mind" in said and "chosen 2nd with probability" in said
    page = (run / "report.html").read_text()
    assert f"ragdro diagnose {run}" in page and "train.jsonl, 4 questions" in page

    shown = invoke("diagnose", str(run))
    assert "self-knowledge" in shown and "one wrong more " in shown and "ceiling" in shown
    assert max(map(len, shown.splitlines()[1:])) <= 80
    saved = json.loads((run / "diagnosis.json").read_text())
    assert saved["probes"]["closed_book"]["questions"] == 2 and len(saved["records"]) == 2
    assert saved == json.loads(invoke("diagnose", str(run), "--json"))
    lists = saved["records"][0]
    assert len(lists["inclusion"]) == 3 and all(0 <= p <= 1 for p in lists["inclusion"])
    assert lists["inclusion_error"] == [0.0] * 3  # 6 * 5 * 4 lists: all of them are scored
    invoke("report", str(run))
    page = (run / "report.html").read_text()
    assert "in the list: 0." in page and "one wrong more" in page
    (run / "diagnosis.json").write_text("[]")
    with pytest.raises(RagdroError, match=r"diagnosis\.json: .*ragdro diagnose"):
        invoke("report", str(run))


def test_an_exported_pair_is_diagnosed_on_any_questions(tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(write_config(tmp_path), ["iterations=0"]))
    out = tmp_path / "out"
    invoke("export", str(tmp_path / "runs/run"), str(out))
    asked = jsonl(
        tmp_path / "own.jsonl",
        [
            {"id": f"o{i}", "question": f"Where does Mara{i} work?", "answers": [f"Firm {i}"]}
            for i in range(3)
        ],
    )
    found = json.loads(invoke("diagnose", str(out), "--data", asked, "--questions", "2", "--json"))
    assert (
        found["questions"] == 2
        and found["split"] == "given"
        and [r["id"] for r in found["records"]]
        == [
            "o0",
            "o1",
        ]
    )
    assert found["probes"]["gold_alone"]["questions"] == 0  # nothing is labelled
    assert not (out / "diagnosis.json").exists()
    empty = jsonl(tmp_path / "empty.jsonl", [])
    with pytest.raises(RagdroError, match=r"empty\.jsonl"):
        invoke("diagnose", str(out), "--data", empty)


def test_what_was_read_says_how_probable_it_was(tmp_path: Path) -> None:
    ragdro.run(ragdro.load_config(write_config(tmp_path), ["iterations=0"]))
    run, question = str(tmp_path / "runs/run"), "Where does Mara4 work?"
    shown = invoke("answer", run, question, "--show-selection")
    assert "chosen 1st with probability 0." in shown and "given the first 2; in the list: 0." in shown
    assert "exact, from all 120 lists" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    record = json.loads(invoke("answer", run, question, "--show-selection", "--json"))
    assert all(entry["inclusion_error"] == 0 for entry in record["selection"])
    assert "inclusion" not in json.loads(invoke("answer", run, question, "--json"))["selection"][0]
    vanilla = invoke("answer", run, question, "--show-selection", "--stage", "vanilla")
    assert "read 2nd, in the retriever's order" in vanilla and "in the list" not in vanilla
