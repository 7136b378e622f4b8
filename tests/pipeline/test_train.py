"""The whole loop through the command line, on small models of several architectures made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.errors import RagdroError
from ragdro.runs.file_index import read_files
from tests.conftest import ARCHITECTURES, byte_level, random_model

METRICS = {
    "exact_match", "f1", "recall_at_1", "recall_at_3", "recall_at_5",
    "full_recall", "bound", "effective_sample_size", "questions", "weight_entropy",
    "passages", "weight_variance", "selector_entropy", "distinct_fraction", "tight_bound", "kl_to_previous",
    "bound_error", "overlap",
}  # fmt: skip


def jsonl(path: Path, records: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return str(path)


def write_config(folder: Path, architecture: str = "llama", **changes: object) -> Path:
    """A config over six questions, nine passages and two untrained models."""
    corpus = [
        {"id": f"p{i}", "title": f"Firm {i}", "text": f"Mara{i} works for Firm {i}, which is in Town{i}."}
        for i in range(9)
    ]
    questions = [
        {
            "id": f"q{i}",
            "question": f"Where does Mara{i} work?",
            "answers": [f"Firm {i}"],
            "passages": [{"title": f"Firm {i}", "text": corpus[i]["text"], "gold": True}],
            "hops": 1,
        }
        for i in range(6)
    ]
    model = folder / "model"
    made = random_model(byte_level(), architecture)
    made.hf.save_pretrained(model)
    made.tokenizer.hf.save_pretrained(model)
    fit = {"learning_rate": 1e-3, "batch_size": 2}
    role = {"model": str(model), "passage_tokens": 24, "question_tokens": 16}
    config: dict[str, object] = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "data": {
            "train": jsonl(folder / "train.jsonl", questions[:4]),
            "validation": jsonl(folder / "validation.jsonl", questions[4:]),
            "corpus": jsonl(folder / "corpus.jsonl", corpus),
        },
        "top_n": 6,
        "selector": {**role, "k": 3, "prompt": "tiny-selector"},
        "generator": {**role, "answer_tokens": 4, "prompt": "tiny-generator"},
        "warm_up": {"selector": fit, "generator": fit},
        "m_step": {"selector": fit, "generator": fit},
        "e_step": {"samples": 3},
        "evaluation": {"samples": 3, "tight_samples": None},
        "iterations": 2,
        **changes,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_run_leaves_what_the_contract_says(architecture: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, architecture)
    result = CliRunner().invoke(app, ["train", str(config)], catch_exceptions=False)
    assert result.exit_code == 0 and "warm-up" in result.stdout
    run = tmp_path / "runs" / "run"
    results = json.loads((run / "results.json").read_text())
    assert set(results) == {"vanilla_rag", "warm_up", "iterations", "best"}
    assert set(results["vanilla_rag"]) == METRICS
    measured = METRICS | {"fallbacks"}
    assert set(results["warm_up"]) == measured
    assert [m["iteration"] for m in results["iterations"]] == [1, 2]
    assert all(set(m) == measured | {"iteration"} for m in results["iterations"])
    assert set(results["best"]) == measured | {"iteration"} and results["best"]["fallbacks"] == 0
    assert results["vanilla_rag"]["bound"] is None and results["warm_up"]["recall_at_5"] is None
    assert results["warm_up"]["bound"] < 0 and 1 <= results["warm_up"]["effective_sample_size"] <= 3
    for stage in ("vanilla_rag", "warm_up", "iteration-1"):
        records = [json.loads(line) for line in (run / f"predictions-{stage}.jsonl").read_text().splitlines()]
        assert [r["id"] for r in records] == ["q4", "q5"] and all(len(r["selection"]) == 3 for r in records)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["packages"]["torch"]
    assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    state = json.loads(max((run / "state").glob("??????.json")).read_text())
    saved = read_files(run / "state", state["files_bytes"], state["files_sha256"])
    assert {key for key in saved if key.startswith("e_step")} == {"e_step-1-0", "e_step-2-0"}
    assert all((run / "state" / name).is_file() for name, _ in saved.values())
    for role in ("selector", "generator"):
        AutoModelForCausalLM.from_pretrained(run / "checkpoints" / "iteration-2" / role)
        AutoTokenizer.from_pretrained(run / "best" / role)


def test_same_config_and_seed_give_identical_results_and_another_seed_does_not(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    runs = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ragdro.run(ragdro.load_config(config, [f"name={name}", f"seed={seed}"]))
        folder = tmp_path / "runs" / name
        weights = (folder / "checkpoints/iteration-2/selector/model.safetensors").read_bytes()
        runs[name] = (folder / "results.json").read_bytes(), weights
    assert runs["a"] == runs["b"]
    assert runs["a"][0] != runs["c"][0] and runs["a"][1] != runs["c"][1]


@pytest.mark.parametrize(("frozen", "moving"), [("selector", "generator"), ("generator", "selector")])
def test_an_ablation_leaves_the_frozen_model_alone(frozen: str, moving: str, tmp_path: Path) -> None:
    ragdro.run(
        ragdro.load_config(
            write_config(tmp_path), [f"train_{frozen}=false", "iterations=1", "checkpoints.keep=all"]
        )
    )
    checkpoints = tmp_path / "runs" / "run" / "checkpoints"

    def weights(iteration: int, role: str) -> bytes:
        return (checkpoints / f"iteration-{iteration}" / role / "model.safetensors").read_bytes()

    assert weights(0, frozen) == weights(1, frozen)
    assert weights(0, moving) != weights(1, moving)


@pytest.mark.parametrize(
    "objective",
    [
        "dro-centered",
        "{kind: dro-tempered, floor: 2.5}",
        "{kind: marginal, passages: 4}",
        "rloo",
        "rrpo",
        "{kind: rejection, keep: right}",
        "{kind: dpo, generator: dpo}",
        "sft",
    ],
)
def test_every_objective_runs_through_the_same_loop(objective: str, tmp_path: Path) -> None:
    overrides = [f"objective={objective}", "iterations=1"]
    if any(kind in objective for kind in ("dro-tempered", "dpo", "rejection")):
        overrides.append("e_step.mixture={retriever: 0.2, uniform: 0.2}")
    config = ragdro.load_config(write_config(tmp_path), [*overrides, "checkpoints.keep=all"])
    results = ragdro.run(config)
    assert len(results["iterations"]) == 1 and results["iterations"][0]["bound"] < 0
    run = tmp_path / "runs" / "run"
    before, after = (
        (run / "checkpoints" / stage / "selector" / "model.safetensors").read_bytes()
        for stage in ("iteration-0", "iteration-1")
    )
    assert (before == after) == (objective == "sft")
    if objective == "sft":  # what the retriever put first is read, during the run and afterwards
        assert ragdro.load(run).answer("Where does Mara4 work?").selection.permutation == (0, 1, 2)
        assert results["iterations"][0]["effective_sample_size"] == 1


def test_a_run_can_be_asked_and_measured_again(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    ragdro.run(ragdro.load_config(config))
    run = tmp_path / "runs" / "run"
    question = "Where does Mara4 work?"
    result = CliRunner().invoke(app, ["answer", str(run), question, "--json"], catch_exceptions=False)
    record = json.loads(result.stdout)
    prediction = ragdro.load(run).answer(question)
    assert record["answer"] == prediction.answer
    assert len(record["candidates"]) == 6 and record["candidates"][0]["score"] is not None
    assert [s["rank_in_candidates"] for s in record["selection"]] == [
        i + 1 for i in prediction.selection.permutation
    ]
    assert all(0 < s["probability"] <= 1 for s in record["selection"])
    shown = CliRunner().invoke(
        app, ["answer", str(run), question, "--show-selection"], catch_exceptions=False
    )
    assert prediction.selected[0].text.split()[0] in shown.stdout
    measured = json.loads(CliRunner().invoke(app, ["evaluate", str(run)], catch_exceptions=False).stdout)
    best = json.loads((run / "results.json").read_text())["best"]
    again = METRICS - {"kl_to_previous"}  # there is no stage before
    assert {k: measured[k] for k in again} == pytest.approx({k: best[k] for k in again}, abs=1e-9)
    reported = CliRunner().invoke(app, ["report", str(run)], catch_exceptions=False)
    assert reported.exit_code == 0 and (run / "curves.png").stat().st_size > 10_000


def test_the_second_run_does_not_search_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path)
    CliRunner().invoke(app, ["train", str(config), "iterations=0"], catch_exceptions=False)
    from ragdro.retrieval.bm25 import Bm25Retriever

    def refuse(*args: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr(Bm25Retriever, "_search_batch", refuse)
    again = CliRunner().invoke(app, ["warmup", str(config), "--overwrite"], catch_exceptions=False)
    assert again.exit_code == 0


def spoil(folder: Path, what: str) -> list[str]:
    """Overrides (and changed files) for one thing that is wrong."""
    if what == "model without an end token":
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        tokenizer.eos_token = None
        tokenizer.save_pretrained(folder / "model")
        return []
    wrong: dict[str, tuple[str, str | None, str]] = {
        "empty corpus": ("data.corpus", "", "empty.jsonl"),
        "no questions": ("data.train", "", "none.jsonl"),
        "no answers": ("data.train", '{"id": "q", "question": "Who?", "answers": []}\n', "bad.jsonl"),
        "no question field": ("data.train", '{"id": "q", "answers": ["x"]}\n', "bad.jsonl"),
        "no such file": ("data.train", None, "missing.jsonl"),
    }
    if what in wrong:
        key, text, name = wrong[what]
        if text is not None:
            (folder / name).write_text(text)
        return [f"{key}={folder / name}"]
    return {
        "K over N": ["selector.k=7"],
        "unknown key": ["e_step.sample=3"],
        "out of range": ["e_step.samples=0"],
        "missing checkpoint": [f"selector.model={folder / 'nowhere'}"],
        "prompt too long": ["selector.passage_tokens=400", f"data.corpus={_long(folder)}"],
    }[what]


def _long(folder: Path) -> str:
    return jsonl(
        folder / "long.jsonl", [{"id": str(i), "title": "t", "text": "Mara4 " * 500} for i in range(9)]
    )


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("empty corpus", "empty.jsonl"),
        ("no questions", "none.jsonl"),
        ("no answers", "answers"),
        ("no question field", "bad.jsonl:1"),
        ("no such file", "missing.jsonl"),
        ("K over N", "K = 7"),
        ("unknown key", "did you mean 'e_step.samples'"),
        ("out of range", "e_step.samples"),
        ("missing checkpoint", "nowhere"),
        ("model without an end token", "end token"),
        ("prompt too long", "passage_tokens"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(what: str, said: str, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    overrides = spoil(tmp_path, what)
    with pytest.raises(RagdroError) as refused:
        CliRunner().invoke(app, ["train", str(config), *overrides], catch_exceptions=False)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "runs").exists()


def test_a_corpus_smaller_than_n_is_taken_whole(tmp_path: Path) -> None:
    config, corpus = write_config(tmp_path), tmp_path / "corpus.jsonl"
    corpus.write_text("".join(corpus.read_text().splitlines(keepends=True)[2:7]))
    ragdro.run(ragdro.load_config(config, ["iterations=1", "top_n=6"]))
    first = (tmp_path / "runs/run/predictions-iteration-1.jsonl").read_text().splitlines()[0]
    assert len(json.loads(first)["selection"]) == 3


def test_the_command_prints_one_line_and_exits_with_2(tmp_path: Path) -> None:
    none = tmp_path / "not there.yaml"
    command = [sys.executable, "-m", "ragdro", "train", str(none)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    said = f"{none}: no such config file; what is there: ls {tmp_path}; a new one: ragdro init '{none}'"
    assert done.stderr == f"ragdro: error: {said}\n"


def test_a_run_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    settings = ragdro.load_config(config, ["iterations=0"])
    ragdro.run(settings)
    with pytest.raises(RagdroError, match="exists"):
        ragdro.run(settings)
    ragdro.run(settings, overwrite=True)
