"""The speed benchmarks at a tiny size: each asserts that its sides agree, and prints one JSON line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import commits, flight, gpu, plan, saving, serving
from benchmarks.timing import same
from benchmarks.trial import parse
from ragdro.lm.model import LanguageModel

NAMES = [
    "m_step_selector",
    "e_step_sample",
    "e_step_score",
    "m_step_generator",
    "iteration",
    "growth",
    "blocks",
    "first_token",
    "attention_kernels",
]


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--size", "tiny"])
    import_module(f"benchmarks.{name}").main()


@pytest.mark.slow
def test_a_benchmark_starts_as_a_file_too() -> None:
    """Its folder comes first on the path then: no file of it may have the name of a library's package."""
    path = Path(__file__).parents[2] / "benchmarks/injection.py"
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_agree_and_one_line_is_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, monkeypatch)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["benchmark"] == name


@pytest.mark.parametrize("name", NAMES)
def test_sides_that_differ_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours reads another end of the prompt than the other side: nothing must be timed."""
    tree_hidden, choice_logits = LanguageModel.tree_hidden, LanguageModel.choice_logits

    def wrong(self: LanguageModel, tree: object) -> torch.Tensor:
        return tree_hidden(self, tree).roll(1, 0)  # type: ignore[arg-type]

    def wrong_choices(self: LanguageModel, *arguments: torch.Tensor) -> torch.Tensor:
        return -choice_logits(self, *arguments)

    monkeypatch.setattr(LanguageModel, "tree_hidden", wrong)
    monkeypatch.setattr(LanguageModel, "choice_logits", wrong_choices)
    monkeypatch.setattr("ragdro.lm.scoring.agree", lambda *rest: True)
    monkeypatch.setattr("ragdro.lm.decoding.agree", lambda *rest: True)
    with pytest.raises(AssertionError, match="differ"):
        run(name, monkeypatch)


@pytest.mark.slow
def test_what_a_gpu_is_to_run_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under adapters, and the kernels of attention; others have tests of their own, and liger needs a GPU."""
    jobs = [
        (name, [word for word in words if word not in ("--kernels", "liger")])
        for name, words in gpu.JOBS
        if "--lora" in words or name == "attention_kernels"
    ]
    monkeypatch.setattr(gpu, "JOBS", jobs)
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path), "--size", "tiny", "--device", "cpu"])
    gpu.main()
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line for line in lines if "failed" in line] == []
    assert [line["benchmark"] for line in lines] == [name for name, _ in jobs]
    assert [line["lora"] for line in lines] == ["--lora" in words for _, words in jobs]


def test_every_word_for_a_gpu_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in gpu.JOBS:
        assert callable(import_module(f"benchmarks.{name}").main)
        monkeypatch.setattr(sys, "argv", [name, *words])
        if name == "plan":
            options = dict(zip(words[::2], words[1::2], strict=True))
            assert options.pop("--size") in plan.SIZES and options.pop("--variant", "full") in plan.VARIANTS
            assert not options
        else:
            assert parse(gpu.__doc__).model in ("llama-1b", "llama-8b")


def test_a_job_that_fails_says_why_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def words() -> None:
        print(json.dumps({"words": sys.argv[1:]}))

    monkeypatch.setattr("benchmarks.growth.main", lambda: same("logits", 1.0, 2.0, 0.1))
    monkeypatch.setattr("benchmarks.blocks.main", words)
    monkeypatch.setattr(gpu, "JOBS", [("growth", ("--repeats", "2")), ("blocks", ("--lora",))])
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path)])
    gpu.main()
    failed, ran = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    assert failed["failed"] == "AssertionError: logits: the sides differ by 0.5"
    assert failed["benchmark"] == "growth" and failed["with"] == ["--repeats", "2", "--device", "cuda"]
    assert ran["words"] == ["--lora", "--device", "cuda"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(tmp_path / "late"), "--seconds", "-1"])
    capsys.readouterr()
    gpu.main()
    assert capsys.readouterr().out.splitlines() == [
        "growth --repeats 2: no time left",
        "blocks --lora: no time left",
    ]


@pytest.mark.slow
def test_a_server_gives_many_clients_what_it_gives_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def and_refuses_others(server: Any, rag: Any, sizes: Any, folder: Path) -> dict[str, Any]:
        found = speed(server, rag, sizes, folder)
        with monkeypatch.context() as patch:
            patch.setattr(serving, "essence", lambda answer: ["another answer", []])
            load = serving.Load(server, serving.questions(serving.CHAT, 1, 3), folder)
        with pytest.raises(AssertionError, match="asked alone: .*another answer"):  # noqa: RUF043
            load.run(1, 1)
        return found

    speed = serving.speed
    monkeypatch.setattr(serving, "speed", and_refuses_others)
    run("serving", monkeypatch)
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["benchmark"] == "serving" and found["throughput"][0] > 0
    (loop,) = found["open_loop"]
    assert loop["fraction"] == 1.5 and loop["rate"] > 0 and loop["p95"] >= loop["median"] > 0


@pytest.mark.slow
def test_threads_and_processes_find_the_same(tmp_path: Path) -> None:
    """The script refuses answers that differ."""
    words = ["--passages", "300", "--questions", "9", "--rounds", "1", "--workers", "3"]
    command = [sys.executable, "-m", "benchmarks.search_workers", *words, "--index", str(tmp_path / "index")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=flight.HERE)
    line = json.loads(done.stdout)
    assert min(line["threads_over_processes"].values()) > 0
    assert all(line[way]["processor_ms"] > 0 for way in ("one_thread", "threads", "processes"))


def test_saves_of_shards_are_timed(tmp_path: Path) -> None:
    times = commits.measure(tmp_path, 3)
    assert len(list((tmp_path / "state").glob("*-shard-*.json"))) == 3
    assert all(0 < one["last_ms"] <= 1000 * one["seconds"] + 5 for one in times.values())


@pytest.mark.slow
def test_every_save_of_a_training_is_timed(tmp_path: Path) -> None:
    waited = saving.trained(saving.HERE, saving.world(tmp_path, width=96, layers=1), 1)
    names, summary = [name for name, _ in waited[0]], saving.summary([waited])
    assert names.count("middle of a fit") == names.count("end of a fit") == 2
    assert [len(watched) for watched in waited[1].values()] == [2, 2]
    assert names[-2:] == ["finish", "close"] and "save_iteration" in names
    assert all(seconds >= 0 for _, seconds in waited[0])
    assert all(least <= middle <= greatest for middle, least, greatest in summary.values())
    assert summary["wait"][0] >= summary["end_of_a_fit"][0]
    assert summary["memory"][0] >= 0 and summary["memory_behind"][0] > 0 and summary["stopped"][0] > 0
    later = ([(name, 2 * seconds) for name, seconds in waited[0]], waited[1])
    assert saving.ratios([waited] * 2, [later] * 2)["wait"] == pytest.approx([2, 2, 2], rel=0.05)


def test_the_exponent_is_that_of_what_questions_cause() -> None:
    flights = [
        {"questions": n, "processor_seconds": {"line": 5 + 0.01 * n, "square": 5 + 1e-6 * n**2, "none": 0.01}}
        for n in (1000, 4000, 16000)
    ]
    assert flight.exponents(flights) == {"line": 1.0, "square": 2.0}


@pytest.mark.slow
def test_a_flight_is_stopped_in_the_middle_and_resumed(tmp_path: Path) -> None:
    options = argparse.Namespace(iterations=1, an_iteration=None, no_warm_up=True)
    found = flight.flown(200, tmp_path, options)
    assert found["questions"] == 200 and len(found["peak_mib"]) == 2
    seconds = found["processor_seconds"]
    computing = {"decode", "score", "selector update", "generator update"}
    assert computing | {"evaluate", "save"} <= seconds.keys()
    # 16 questions to validate, behind no warm-up and behind the iteration
    assert found["milliseconds_a_question_measured"] == pytest.approx(seconds["evaluate"] * 1000 / 32, 0.05)
    assert found["state_in_the_middle"]["files"] > 1 and found["resume_to_first_update"]["processor"] > 0
