"""`ragdro train --dry-run`, `--strict` and the lines at the start of a run, right and wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

import ragdro
from ragdro.cli import app
from ragdro.errors import ConfigError
from ragdro.planning.preflight import preflight
from ragdro.runs.models import ROLES
from tests.pipeline.test_train import jsonl, write_config

_WHOLE = ["generator.answer_tokens=12", "generator.passage_tokens=64", "selector.passage_tokens=64"]
"""Nothing is cut."""


_UPDATE = {"memory": 2.0**20, "gradients": 2.0**18, "optimiser": 2.0**19}


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that takes no time."""
    phases = {"selector update": _UPDATE, "generator update": _UPDATE}
    planned = {"phases": phases, "memory": 2.0**20, "flops": 1e9}
    monkeypatch.setattr("ragdro.planning.preflight.plan", lambda *_: planned)
    monkeypatch.setattr("ragdro.planning.machine.measured_peak", lambda *_: 1e9)


def train(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["train", str(config), *_WHOLE, *words])


def found(config: Path, *overrides: str) -> dict[str, tuple[str, str]]:
    findings = preflight(ragdro.load_config(config, [*_WHOLE, *overrides]))
    levels = [one.level for one in findings]
    assert levels == sorted(levels, key=("problem", "note", "ok").index)
    return {one.check: (one.level, one.text) for one in findings}


def test_a_config_that_runs_has_no_problem_and_nothing_is_trained(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    done = train(config, "--dry-run", "--strict")
    assert done.exit_code == 0 and done.stdout.splitlines()[-1] == "0 problems"
    assert not (tmp_path / "runs").exists()
    findings = found(config)
    assert set(findings) >= {
        "device", "data.train", "data.validation", "data.corpus", "overlap", "candidates", "matches",
        "recall", *ROLES, "selector: prompt", "generator: prompt", "selector: limits", "memory",
        "disk", "time",
    }  # fmt: skip
    assert findings["recall"][1].startswith("1.000 of the gold passages among the candidates (6 questions)")
    assert "plain prompts, answers end with </s>" in findings["selector"][1]


def test_the_run_finds_what_was_searched_for_and_writes_no_more_than_was_said(tmp_path: Path) -> None:
    config = write_config(tmp_path, checkpoints={"keep": "all", "every": 1})
    found(config)
    listed = sorted((tmp_path / "cache" / "candidates").glob("*.jsonl"))
    before = [path.stat().st_mtime_ns for path in listed]
    settings = ragdro.load_config(config)
    from torch import device

    from ragdro.planning.machine import bytes_to_write
    from ragdro.planning.plan import plan
    from ragdro.planning.roles import parameter_bytes

    most = bytes_to_write(
        settings, plan(settings, 4, device("cpu")), {r: parameter_bytes(settings, r) for r in ROLES}
    )
    ragdro.run(settings)
    assert [path.stat().st_mtime_ns for path in listed] == before and len(listed) == 2
    weights = sum(path.stat().st_size for path in (tmp_path / "runs/run/checkpoints").rglob("*.safetensors"))
    assert weights <= most <= 4 * weights


@pytest.mark.usefixtures("canned")
def test_problems_stand_first_and_strict_refuses(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "validation.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    done = train(config, "--dry-run")
    assert done.exit_code == 0 and done.stdout.startswith("problem  overlap: in both train and")
    for words in (["--dry-run", "--strict"], ["--strict"]):
        refused = train(config, *words)
        assert isinstance(refused.exception, ConfigError) and refused.exception.exit_code == 2
        assert "--strict: overlap: in both train and validation: 4 questions" in str(refused.exception)
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("canned")
@pytest.mark.parametrize(
    ("override", "check", "said"),
    [
        ("data.train=absent.jsonl", "data.train", "absent.jsonl"),
        ("data.corpus=absent.jsonl", "data.corpus", "absent.jsonl"),
        ("selector.model=./absent", "selector", "absent"),
        ("generator.prompt=absent.yaml", "generator: prompt", "no such prompt template"),
        (
            "selector.passage_tokens=4",
            "selector: limits",
            "of the passages are cut; raise selector.passage_tokens",
        ),
        (
            "generator.answer_tokens=1",
            "generator: limits",
            "1.000 of the answers are cut; raise generator.answer_tokens",
        ),
        ("selector.question_tokens=2", "selector: limits", "1.000 of the questions are cut"),
        ("report_to=[trackio]", "report_to", "pip install 'ragdro[trackio]'"),
        ("device=nonsense", "device", "no such device"),
    ],
)
def test_what_cannot_be_used_is_a_problem(override: str, check: str, said: str, tmp_path: Path) -> None:
    level, text = found(write_config(tmp_path), override)[check]
    assert level == "problem" and said in text


@pytest.mark.usefixtures("canned")
def test_models_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    config, model = write_config(tmp_path), tmp_path / "model"
    (model / "model.safetensors").unlink()
    level, text = found(config)["selector"]
    assert level == "problem" and "holds no weights" in text
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    (model / "model.safetensors").write_bytes(b"")
    (model / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "eos_token": None}))
    level, text = found(config)["generator"]
    assert level == "problem" and "no end token" in text


@pytest.mark.usefixtures("canned")
def test_a_prompt_that_hides_the_text_is_a_problem(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.yaml"
    prompt.write_text(yaml.safe_dump({"user": "{passages} {question}", "passage": "{title}\n"}))
    level, text = found(write_config(tmp_path), f"selector.prompt={prompt}")["selector: prompt"]
    assert level == "problem" and "no slot {identifier} and {text}" in text


@pytest.mark.usefixtures("canned")
def test_questions_that_match_nothing_and_low_recall_are_problems(tmp_path: Path) -> None:
    config = write_config(tmp_path, top_n=3)
    strange = [{"id": f"x{i}", "question": f"zzz{i} yyy?", "answers": ["nowhere"]} for i in range(4)]
    jsonl(tmp_path / "train.jsonl", strange)
    findings = found(config)
    assert findings["matches"][0] == "problem" and findings["matches"][1].startswith(
        "no passage matches: 4 of 6 questions"
    )
    assert findings["recall"][0] == "ok"  # of those with gold passages
    jsonl(tmp_path / "validation.jsonl", [{**strange[0], "id": "v", "question": "where is it?"}])
    assert found(config)["recall"][0] == "problem"


@pytest.mark.usefixtures("canned")
def test_a_corpus_smaller_than_n_is_a_note_and_a_slow_search_is_not_made(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    level, text = found(config, "top_n=20")["candidates"]
    assert level == "note" and "fewer than N = 20: 6 of 6 questions (the fewest: 9)" in text
    level, text = found(
        config, "retriever={kind: external, source: {type: json, url: 'http://localhost:1'}}"
    )["candidates"]
    assert level == "note" and text.startswith("not looked at")


@pytest.mark.usefixtures("canned")
def test_a_plan_is_of_the_candidates_that_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []

    def plan(config: ragdro.Config, *_: object) -> dict[str, object]:
        planned.append(config.top_n)
        return {"phases": {"selector update": _UPDATE}, "memory": 2.0**20, "flops": 1e9}

    monkeypatch.setattr("ragdro.planning.preflight.plan", plan)
    for top_n in (20, 3):
        found(write_config(tmp_path), f"top_n={top_n}")
    assert planned == [9, 3]


@pytest.mark.usefixtures("canned")
def test_what_is_not_looked_at_is_said(tmp_path: Path) -> None:
    scratch = ["selector.model=null", "selector.scratch={width: 32, layers: 1}"]
    findings = found(write_config(tmp_path), *scratch)
    assert findings["selector"] == ("ok", "a new llama model, random weights")
    assert findings["selector: prompt"] == ("note", "not looked at: its tokenizer is made by the run")
    assert findings["generator: prompt"][0] == "ok"


@pytest.mark.usefixtures("canned")
def test_memory_that_is_not_there_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.planning.machine.memory_of", lambda device: 1000)
    assert found(write_config(tmp_path))["memory"][0] == "problem"


def test_the_resolved_config_is_still_to_be_had(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    done = train(config, "--dry-run", "--show-config", "top_n=7")
    assert done.exit_code == 0 and yaml.safe_load(done.stdout)["top_n"] == 7
    assert isinstance(train(config, "--show-config").exception, ConfigError)


def test_a_run_begins_with_a_few_lines_and_its_problems(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=0)
    (tmp_path / "validation.jsonl").write_text((tmp_path / "train.jsonl").read_text())
    done = train(config)
    assert done.exit_code == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("ragdro: ")]
    model = tmp_path / "model"
    assert lines[:4] == [
        f"ragdro: training the selector ({model}, all weights) and the generator ({model}, all weights)"
        " by dro, on cpu",
        "ragdro: on 4 questions, 4 to validate, none for a test; N = 6 candidates, K = 3 selected",
        f"ragdro: into {tmp_path / 'runs' / 'run'}",
        "ragdro: problem: overlap: in both train and validation: 4 questions, such as"
        " 'where does mara0 work?'",
    ]
