"""Runs that ask a question more than once: the folder, interruption, what a trained run answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ragdro
from ragdro.cli import app
from ragdro.config import Answering
from ragdro.errors import ConfigError
from ragdro.report.plain import one_line
from ragdro.report.predictions import read_records
from ragdro.report.run_page import write_report
from ragdro.runs import shards
from ragdro.runs.setup import set_up
from ragdro.runs.status import read_results
from ragdro.runs.warm_start import warm_start
from ragdro.serve.jobs import Answered, AnswerJob, work
from ragdro.serve.stages import loaded, open_stages
from ragdro.studies.selections import measure
from ragdro.training.e_step import e_step
from ragdro.training.path_proposals import path_proposals
from ragdro.training.proposals import proposals
from tests.paths import far_questions
from tests.pipeline.crash import killed_and_resumed, outcome
from tests.pipeline.path_config import path_config
from tests.unit.report.test_table_html import Tags


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    ragdro.run(ragdro.load_config(path_config(folder)))
    return folder


@pytest.mark.parametrize("commit", [8, 13, 19])
def test_a_run_that_is_killed_ends_as_one_that_was_not(
    finished: Path, commit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the rewriter's warm-up, in an E-step, in the rewriter's fit."""
    config = ragdro.load_config(finished / "config.yaml", [f"name=killed-{commit}"])
    expected, resumed = outcome(finished / "runs/run"), killed_and_resumed(config, commit, monkeypatch)
    assert resumed.keys() == expected.keys()
    assert [key for key in expected if resumed[key] != expected[key]] == []


@pytest.fixture(scope="module")
def writes_first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose rewriter writes every query."""
    folder = tmp_path_factory.mktemp("first")
    retrieval = {"rounds": 2, "k": [1, 2], "stop": True, "rewrite_first": True}
    ragdro.run(ragdro.load_config(path_config(folder, retrieval=retrieval, iterations=1)))
    return folder


@pytest.mark.parametrize("commit", [13, 18])
def test_a_killed_run_whose_first_query_is_written_ends_as_one_that_was_not(
    writes_first: Path, commit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an E-step, in the rewriter's fit."""
    config = ragdro.load_config(writes_first / "config.yaml", [f"name=killed-{commit}"])
    expected, resumed = outcome(writes_first / "runs/run"), killed_and_resumed(config, commit, monkeypatch)
    assert resumed.keys() == expected.keys()
    assert [key for key in expected if resumed[key] != expected[key]] == []


def test_a_written_first_query_is_in_the_predictions(finished: Path, writes_first: Path) -> None:
    """With its probability; the question that asks itself has none."""
    for folder, written in ((writes_first, True), (finished, False)):
        records = read_records(folder / "runs/run", "iteration-1")
        assert [record["path"][0]["log_query"] is not None for record in records] == [written] * 2
        assert [record["path"][0]["query"] == record["question"] for record in records] == [not written] * 2


def test_the_folder_holds_three_models_and_paths(finished: Path) -> None:
    run = finished / "runs/run"
    results = json.loads((run / "results.json").read_text())
    assert 1 <= results["best"]["retrievals"] <= 2 and results["best"]["bound"] < 0
    assert {p.name for p in (run / "checkpoints/iteration-2").iterdir()} == {
        "selector",
        "generator",
        "rewriter",
    }
    records = [json.loads(line) for line in (run / "predictions-iteration-2.jsonl").read_text().splitlines()]
    for record in records:
        first, *others = record["path"]
        assert first["query"] == record["question"] and len(first["selected"]) == 1 and len(others) == 1
        selected = [place for one in record["path"] for place in one["selected"]]
        assert selected == [one["rank_in_candidates"] for one in record["selection"]]
    rag = ragdro.load(run, stage="iteration-2")
    questions = far_questions(8)[6:]
    for record, prediction in zip(records, rag.answer_many(questions), strict=True):
        assert prediction.answer == record["answer"] and prediction.selection.path is not None
        assert [one.query for one in prediction.selection.path.rounds] == [
            one["query"] for one in record["path"]
        ]


def test_the_commands_take_such_a_run(finished: Path, tmp_path: Path) -> None:
    run, runner = finished / "runs/run", CliRunner()
    measured = runner.invoke(app, ["evaluate", str(run)], catch_exceptions=False)
    results = json.loads((run / "results.json").read_text())
    assert json.loads(measured.stdout)["retrievals"] == results["best"]["retrievals"]
    assert json.loads(measured.stdout)["bound"] == pytest.approx(results["best"]["bound"], abs=1e-4)
    asked = runner.invoke(app, ["answer", str(run), "Which town has Mara1?"], catch_exceptions=False)
    assert asked.exit_code == 0
    diagnosed = runner.invoke(app, ["diagnose", str(run)], catch_exceptions=False)
    assert diagnosed.exit_code == 0
    reported = runner.invoke(app, ["report", str(run)], catch_exceptions=False)
    assert reported.exit_code == 0
    exported = runner.invoke(
        app, ["export", str(run), str(tmp_path / "out"), "--index"], catch_exceptions=False
    )
    assert exported.exit_code == 0 and (tmp_path / "out/rewriter/model.safetensors").is_file()
    own, away = ragdro.load(run), ragdro.load(tmp_path / "out")
    for a, b in zip(own.answer_many(far_questions(3)), away.answer_many(far_questions(3)), strict=True):
        assert a.answer == b.answer and a.selection == b.selection


def test_a_path_is_shown(finished: Path) -> None:
    """On the terminal as `Rag` says it, in JSON, and with every error of the page; without --show-path
    nothing is different."""
    run, runner, question = finished / "runs/run", CliRunner(), "Which town has Mara1?"

    def answer(*options: str) -> str:
        return runner.invoke(app, ["answer", str(run), question, *options], catch_exceptions=False).stdout

    prediction = ragdro.load(run).answer(question)
    assert answer() == f"{one_line(prediction.answer)}\n" and "path" not in json.loads(answer("--json"))
    path = prediction.selection.path
    assert path is not None and len(path.rounds) == 2
    shown = answer("--show-path")
    assert max(map(len, shown.splitlines())) <= 80 and shown.startswith(f"round 1: {question}\n")
    for number, one in enumerate(path.rounds, start=1):
        assert f"round {number}: {one_line(one.query) or '(nothing)'}" in shown
        assert all(f"({passage.title})" in shown for passage in one.read)
        assert all(passage.title in shown for passage in one.candidates.passages)
    assert shown.rstrip().splitlines()[-1] == f"answer: {one_line(prediction.answer)}".rstrip()
    record = json.loads(answer("--show-path", "--json"))
    titles = [passage["title"] for passage in record["candidates"]]
    for one, held in zip(path.rounds, record["path"], strict=True):
        assert [titles[i - 1] for i in held["selected"]] == [p.title for p in one.read]
        assert [titles[i - 1] for i in held["found"]] == held["titles"]
    assert "The question is asked once" in answer("--show-path", "--stage", "vanilla")

    page = Tags(write_report(run).read_text(encoding="utf-8")).said
    best = read_results(run)["best"]["iteration"]
    records = read_records(run, f"iteration-{best}" if best else "warm_up")
    wrong = [record for record in records if not record["exact_match"]]
    assert wrong and "searches" in page and "Each error has its further queries" in page
    for record in wrong:
        assert f"then asked: {one_line(record['path'][1]['query']) or '(nothing)'}" in page


def test_answers_are_summed_over_paths(finished: Path, tmp_path: Path) -> None:
    """By the library, by the commands and by a server alike."""
    run, runner, question = finished / "runs/run", CliRunner(), "Which town has Mara1?"

    def said(*options: str) -> str:
        return runner.invoke(app, [*options, "--answering", "marginal"], catch_exceptions=False).stdout

    alone = ragdro.load(run, answering="marginal").answer(question)
    path, known = alone.selection.path, alone.distribution
    assert path is not None and known is not None and known.lists == 8 and not known.exact
    shown = said("answer", str(run), question, "--show-path")
    assert f"round 1: {question}" in shown and one_line(alone.answer) in shown
    record = json.loads(said("answer", str(run), question, "--show-path", "--json"))
    assert record["answer"] == alone.answer and len(record["path"]) == len(path.rounds)
    assert record["confidence"] == pytest.approx(known.confidence, rel=1e-4) and record["lists"] == 8
    rag, _ = open_stages(run)
    how = Answering(kind="marginal", samples=8)
    (done,) = work({None: rag}, [AnswerJob(question, samples=2, scored=True, answering=how)], 4)
    assert isinstance(done, Answered) and done.prediction.answer == alone.answer
    assert done.agreement == pytest.approx(known.answers[0].agreement, abs=1e-4)
    measured = json.loads(said("evaluate", str(run), "--tables", str(tmp_path / "tables")))
    assert set(measured["answering"]) == {"greedy", "marginal", "difference"} and measured["retrievals"] >= 1
    assert (tmp_path / "tables/answering.md").is_file()
    joint = runner.invoke(app, ["evaluate", str(run), "--answering", "joint"], catch_exceptions=False)
    assert set(json.loads(joint.stdout)["answering"]) == {"greedy", "joint", "difference"}
    assert set(measure(run)) == {"greedy", "joint"}


def test_a_server_asks_again_and_says_so(finished: Path) -> None:
    """Every stage walks paths; what is of one list (agreement, being in it) is not said of several."""
    run, question = finished / "runs/run", "Which town has Mara1?"
    rag, served = open_stages(run, compare=True)
    alone = ragdro.load(run).answer(question)
    rags: dict[str | None, Any] = {None: rag, **served.others}
    for stage in (None, "warm-up"):
        job = AnswerJob(question, samples=2, scored=True, included=True, stage=stage)
        (done,) = work(rags, [job], 4)
        assert isinstance(done, Answered) and done.prediction.selection.path is not None
        assert done.agreement is None and done.ranked is None and done.log_probability is not None
        if stage is None:
            assert done.prediction.answer == alone.answer
            assert done.prediction.selected == alone.selected and alone.selection.path is not None
            assert done.prediction.selection.path.decisions == alone.selection.path.decisions
    (vanilla,) = work(rags, [AnswerJob(question, samples=2, stage="vanilla")], 4)
    assert isinstance(vanilla, Answered) and vanilla.prediction.selection.path is None
    assert len(vanilla.prediction.selected) == 3  # as many as a path reads at most
    models = {
        id(part.model.hf) for r in rags.values() for part in (r.selector, r.generator, r.asking.rewriter)
    }
    assert f"{len(models)} models" in loaded(rag, served)


def test_another_run_starts_from_all_three(finished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stage = finished / "runs/run/checkpoints/iteration-2"
    overrides = ["name=another", "iterations=1", f"warm_up.from={stage}"]
    config = ragdro.load_config(finished / "config.yaml", overrides)
    results = ragdro.run(config)
    assert set(results["warm_up_from"]["sha256"]) == {"selector", "generator", "rewriter"}
    said = capfd.readouterr().err  # what is trained, and how many are read
    assert (
        f"the rewriter ({config.rewriter and config.rewriter.model}" in said and "K = 1 + 2 selected" in said
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retrieval.k=[2,1]", r"retrieval.k is \[2, 1\] here and was \[1, 2\]"),
        ("retrieval.stop=false", "retrieval.stop is False here and was True"),
        ("retrieval.rewrite_first=true", "retrieval.rewrite_first is True here and was False"),
        ("retrieval={rounds: 3, k: [1, 2, 1], stop: true}", "retrieval.rounds is 3 here and was 2"),
    ],
)
def test_other_rounds_are_another_warm_up(finished: Path, override: str, message: str) -> None:
    stage = finished / "runs/run/checkpoints/iteration-2"
    overrides = ["name=other", override, f"warm_up.from={stage}"]
    with pytest.raises(ConfigError, match=f"warm_up.from: {message}"):
        warm_start(ragdro.load_config(finished / "config.yaml", overrides))


@pytest.mark.parametrize("written", [False, True], ids=["the question first", "a query first"])
def test_paths_are_saved_to_the_last_bit(finished: Path, written: bool) -> None:
    config = ragdro.load_config(finished / "config.yaml", [f"retrieval.rewrite_first={written}".lower()])
    setup = set_up(config)
    assert setup.rag.asking is not None
    propose = path_proposals(
        proposals(setup.algorithm, config.e_step, 0, 1), setup.rag.asking, config.e_step, 0, 1
    )
    tasks = setup.train
    weighted = e_step(setup.rag.selector, setup.rag.generator, tasks, propose=propose, max_tokens=9999)
    assert any(len(w.task.candidates.passages) > 4 for w in weighted)
    firsts = [s.path.rounds[0] for w in weighted for s in w.samples if s.path is not None]
    assert firsts and all(bool(first.tokens) == written for first in firsts)
    again = shards.decode(json.loads(json.dumps(shards.encode(weighted))), tasks)
    assert again == weighted
    bare = [
        replace(w, task=task, samples=tuple(replace(s, path=None) for s in w.samples))
        for w, task in zip(weighted, tasks, strict=True)
    ]
    assert "paths" not in shards.encode(bare)[0] and len(shards.encode(bare)[0]["samples"][0]) == 7
