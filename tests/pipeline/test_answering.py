"""Marginal answers through the command line, the server's routes, and `ragdro chat`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

import ragdro
import ragdro.sources
from ragdro.cli import app
from ragdro.config.answering import Answering
from ragdro.errors import ConfigError
from ragdro.serve.app import create_app
from ragdro.serve.settings import ServeSettings
from ragdro.types import Prediction
from tests.serving import PASSAGES, QUESTIONS, exported_folder

MARGINAL = Answering(kind="marginal", samples=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("answering") / "tiny")


@pytest.fixture(scope="module")
def rag(folder: Path) -> ragdro.Rag:
    return ragdro.load(folder)


@pytest.fixture(scope="module")
def marginal(rag: ragdro.Rag) -> Prediction:
    return rag.answer(QUESTIONS[1], answering=MARGINAL)


def invoke(*words: object, lines: str = "") -> str:
    done = CliRunner().invoke(app, [*map(str, words)], input=lines, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_answer(folder: Path, marginal: Prediction) -> None:
    assert marginal.distribution is not None and not marginal.distribution.exact
    words = ["answer", folder, QUESTIONS[1], "--answering", "marginal", "--samples", 4]
    record = json.loads(invoke(*words, "--json"))
    assert record["answer"] == marginal.answer and record["lists"] == 4 and not record["abstained"]
    assert record["confidence"] == pytest.approx(marginal.distribution.confidence, abs=1e-4)
    assert [c["answer"] for c in record["competing"]] == [a.answer for a in marginal.distribution.answers]
    assert record["competing"][0]["probability"] == record["confidence"]
    assert invoke(*words, "--threshold", 1) == "no answer\n"
    with pytest.raises(ConfigError, match="--threshold: a greedy answer has no confidence; add --answering"):
        invoke(*words[:3], "--threshold", 1)
    shown = invoke(*words, "--threshold", 1, "--show-selection")
    assert shown.startswith(f"no answer  ({marginal.answer}: p 0.")
    with pytest.raises(ConfigError, match="--samples: a greedy answer draws no lists; add --ans"):
        invoke("answer", folder, QUESTIONS[1], "--samples", 4)
    with pytest.raises(ConfigError, match="threshold: a greedy answer has no confidence"):
        invoke("answer", folder, QUESTIONS[1], "--threshold", 0.5)
    refused = CliRunner().invoke(app, ["answer", str(folder), QUESTIONS[1], "--answering", "best"])
    assert refused.exit_code == 2 and "--answering" in refused.output


def test_the_configs_way_is_the_default(tmp_path: Path) -> None:
    folder = exported_folder(tmp_path / "tiny", "answering={kind: marginal, samples: 3, threshold: 1}")
    assert invoke("answer", folder, QUESTIONS[1]) == "no answer\n"
    greedy = json.loads(invoke("answer", folder, QUESTIONS[1], "--answering", "greedy", "--json"))
    assert greedy["answer"] and "confidence" not in greedy
    assert ragdro.load(folder).answering.samples == 3
    assert ragdro.load(folder, answering="greedy").answering == Answering(samples=3)
    assert ragdro.load(folder, answering="marginal").answering == ragdro.load(folder).answering


def test_evaluate_measures_both_ways(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "few.jsonl"
    with Path(ragdro.sources.resolve("tiny:test")).open() as lines:
        data.write_text("".join(line for line, _ in zip(lines, range(6), strict=False)))
    words = ["evaluate", folder, "--data", data, "--stage", "best"]
    greedy = json.loads(invoke(*words))
    out, tables = tmp_path / "out.jsonl", tmp_path / "tables"
    both = json.loads(
        invoke(*words, "--answering", "marginal", "--samples", 4, "--out", out, "--tables", tables)
    )
    ways = both["answering"]
    assert ways["greedy"]["exact_match"] == greedy["exact_match"] and "answering" not in greedy
    assert ways["marginal"]["exact_match"] == both["exact_match"] and both["abstained"] == 0
    records = [json.loads(line) for line in out.read_text().splitlines()]
    confidence = [r["confidence"] for r in records]
    brier = sum((c - r["exact_match"]) ** 2 for c, r in zip(confidence, records, strict=True)) / 6
    assert ways["marginal"]["brier"] == pytest.approx(brier)
    assert ways["marginal"]["mean_confidence"] == pytest.approx(sum(confidence) / 6)
    gain = ways["marginal"]["exact_match"] - ways["greedy"]["exact_match"]
    assert ways["difference"]["exact_match"]["mean"] == pytest.approx(gain)
    assert "| greedy |" in (tables / "answering.md").read_text()
    assert (tables / "answering.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ConfigError, match="--tables"):
        invoke(*words, "--tables", tables)


@pytest.mark.parametrize("kind", ["union", "joint"])
def test_evaluate_compares_other_selections_with_greedy(kind: str, folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "few.jsonl"
    with Path(ragdro.sources.resolve("tiny:test")).open() as lines:
        data.write_text("".join(line for line, _ in zip(lines, range(12), strict=False)))
    found = json.loads(
        invoke(
            "evaluate", folder, "--data", data, "--answering", kind, "--samples", 3, "--out", tmp_path / "o"
        )
    )
    ways, metrics = found["answering"], ("exact_match", "f1", "full_recall")
    assert set(ways) == {"greedy", kind, "difference"} and set(ways[kind]) == set(metrics)
    records = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    for metric in metrics:
        mean = sum(r[metric] for r in records) / len(records)
        assert ways[kind][metric] == found[metric] == pytest.approx(mean)
        gain = ways[kind][metric] - ways["greedy"][metric]
        assert ways["difference"][metric]["mean"] == pytest.approx(gain)
    served = {**ragdro.load(folder).answering.model_dump(), "kind": kind, "samples": 3}
    rag = ragdro.load(folder, answering=Answering(**served))
    with TestClient(create_app(rag, ServeSettings(name="t")), base_url="http://127.0.0.1:8000") as asking:
        record = asking.post("/v1/answer", json={"question": records[0]["question"]}).json()
    assert record["answering"] == kind and record["answer"] == rag.answer(records[0]["question"]).answer
    assert record["samples"] == 3
    assert record["probability_of"] == ("inclusion" if kind == "union" else "choice")


@pytest.fixture(scope="module")
def client(rag: ragdro.Rag) -> Any:
    with TestClient(create_app(rag, ServeSettings(name="tiny")), base_url="http://127.0.0.1:8000") as asking:
        yield asking


def test_our_own_route(client: TestClient, marginal: Prediction, rag: ragdro.Rag) -> None:
    body = {"question": QUESTIONS[1], "answering": "marginal", "samples": 4}
    found = client.post("/v1/answer", json=body).json()
    assert marginal.distribution is not None
    best = marginal.distribution.answers[0]
    assert (found["answering"], found["answer"], found["samples"]) == ("marginal", marginal.answer, 4)
    assert found["confidence"] == pytest.approx(best.probability, abs=1e-4)
    assert found["agreement"] == pytest.approx(best.agreement, abs=1e-4)
    assert len(found["competing"]) == len(marginal.distribution.answers)
    assert found["log_probability"] <= 0
    refusing = client.post("/v1/answer", json={**body, "threshold": 1}).json()
    assert refusing["answer"] == "" and refusing["abstained"] and refusing["log_probability"] is None
    assert refusing["competing"][0]["answer"] == marginal.answer
    greedy = client.post("/v1/answer", json={"question": QUESTIONS[1]}).json()
    assert greedy["answering"] == "greedy" and "confidence" not in greedy
    assert greedy["answer"] == rag.answer(QUESTIONS[1]).answer
    for wrong in ({"threshold": 0.5}, {"threshold": 2}, {"answering": "best"}):
        refused = client.post("/v1/answer", json={"question": QUESTIONS[1], **wrong})
        assert refused.status_code == 400 and "\n" not in refused.json()["error"]["message"]


def test_chat_completions(client: TestClient, rag: ragdro.Rag) -> None:
    body = {"messages": [{"role": "user", "content": QUESTIONS[1]}], "answering": "marginal"}
    found = client.post("/v1/chat/completions", json=body).json()
    alone = rag.answer(QUESTIONS[1], answering="marginal")
    assert alone.distribution is not None
    assert found["choices"][0]["message"]["content"] == alone.answer
    assert found["confidence"] == pytest.approx(alone.distribution.confidence, abs=1e-4)
    assert [c["id"] for c in found["citations"]] == [p.id for p in alone.selected]
    refusing = client.post("/v1/chat/completions", json={**body, "threshold": 1}).json()
    assert refusing["choices"][0]["message"]["content"] == "no answer"
    stream = client.post("/v1/chat/completions", json={**body, "threshold": 1, "stream": True}).text
    assert '"content": "no"' in stream and '"content": " answer"' in stream


def test_chat_on_piped_input(folder: Path, rag: ragdro.Rag, client: TestClient) -> None:
    """Several turns are what the server's route makes of them."""
    words = ("/sources", *QUESTIONS[::2], "/sources", "/new", QUESTIONS[0], "/help", "/what", "/quit", "no")
    shown = invoke("chat", folder, lines="\n".join(words))
    first = rag.answer(QUESTIONS[0])
    turns = [
        {"role": "user", "content": QUESTIONS[0]},
        {"role": "assistant", "content": first.answer},
        {"role": "user", "content": QUESTIONS[2]},
    ]
    second = client.post("/v1/chat/completions", json={"messages": turns}).json()
    answers = [first.answer, second["choices"][0]["message"]["content"], first.answer]
    lines_shown = shown.splitlines()
    assert lines_shown[0] == "nothing has been asked yet"
    assert [lines_shown[1], lines_shown[7]] == answers[:2]
    assert lines_shown[2].startswith("  [1] p ") and lines_shown[6].startswith("  [5] p ")
    assert second["citations"][4]["text"] in shown
    assert shown.count(f"\n{first.answer}\n") >= 2 and "/quit" in shown and "no such command: /what" in shown
    assert all(len(line) <= 80 for line in lines_shown)


def test_chat_from_passages_and_marginal(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps({"id": f"x{i}", "text": t}) + "\n" for i, t in enumerate(PASSAGES)))
    shown = invoke("chat", folder, "--passages", path, "--answering", "marginal", lines=QUESTIONS[0])
    assert "lists that agree" in shown.splitlines()[0] and "(x0)" in shown
