"""A selector that never changes is asked once about the questions that every stage measures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import ragdro
from ragdro.selection.list_selector import ListSelector
from ragdro.training.known import Known
from ragdro.types import Candidates, Passage, Question, Task
from tests.pipeline.test_train import write_config


def run(folder: Path, name: str, **changes: object) -> dict[str, Any]:
    path = write_config(folder, iterations=2, patience=None, **changes)
    values = yaml.safe_load(path.read_text())
    test = [json.loads(line) for line in Path(values["data"]["train"]).read_text().splitlines()]
    lines = [json.dumps({**record, "id": f"test-{record['id']}"}) + "\n" for record in test]
    (folder / "test.jsonl").write_text("".join(lines))
    values["data"]["test"] = str(folder / "test.jsonl")
    path.write_text(yaml.safe_dump(values))
    config = ragdro.load_config(path, [f"name={name}", "train_selector=false"])
    return ragdro.run(config, overwrite=True)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions behind whose prompts lists were written."""
    asked: list[str] = []
    write = ListSelector._write

    def counted(self: ListSelector, tasks: Sequence[Task], *rest: Any) -> Any:
        asked.extend(task.question.id for task in tasks)
        return write(self, tasks, *rest)

    monkeypatch.setattr(ListSelector, "_write", counted)
    return asked


def test_it_reads_what_is_measured_once_and_the_results_are_the_same(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(tmp_path, "once")
    measured = [name for name in read if name.startswith("test-") or name in ("q4", "q5")]
    assert sorted(measured) == [*(f"q{i}" for i in (4, 5)), *(f"test-q{i}" for i in range(4))]
    with monkeypatch.context() as patch:
        patch.setattr("ragdro.training.parts.is_frozen", lambda *_: False)
        whole = run(tmp_path, "anew")
    for row, other in zip(found["iterations"], whole["iterations"], strict=True):
        assert row.pop("kl_to_previous") == 0.0 and abs(other.pop("kl_to_previous")) < 1e-5
        assert row == other
    assert found["warm_up"] == whole["warm_up"]
    names = [f"predictions-{stage}.jsonl" for stage in ("warm_up", "iteration-1", "iteration-2")]
    files = [[(tmp_path / "runs" / of / name).read_bytes() for name in names] for of in ("once", "anew")]
    assert files[0] == files[1]


def test_a_generator_with_the_same_weights_moves_the_selector(tmp_path: Path) -> None:
    """One model in both roles, without adapters: nothing may be kept."""
    from ragdro.algorithms.dro import Dro
    from ragdro.config import LoraAdapter, TrainingSettings
    from ragdro.generation.generator import Generator
    from ragdro.lm.adapters import with_adapter
    from ragdro.prompts import load_template
    from ragdro.prompts.template import Budget
    from ragdro.system import Rag
    from ragdro.training.known import is_frozen
    from tests.conftest import byte_level, random_model

    def frozen(*, shared: bool, adapters: bool = False, **settings: Any) -> bool:
        base = random_model(byte_level())
        models = [base, base if shared else random_model(byte_level())]
        if adapters:
            models = [
                with_adapter(model, role, LoraAdapter(rank=2), seed=0)
                for model, role in zip(models, ("selector", "generator"), strict=True)
            ]
        selector = ListSelector(models[0], load_template("tiny-selector"), k=2, n=4, budget=Budget(9, 9))
        generator = Generator(
            models[1], load_template("tiny-generator"), budget=Budget(9, 9), answer_tokens=4
        )
        return is_frozen(Rag(selector, generator, None, 999), Dro(), TrainingSettings(**settings))

    assert not frozen(shared=False) and not frozen(shared=True, train_selector=False)
    assert frozen(shared=False, train_selector=False)
    assert frozen(shared=True, adapters=True, train_selector=False)
    assert frozen(shared=True, train_selector=False, train_generator=False)


def test_other_candidates_are_asked_about_again() -> None:
    def task(text: str) -> Task:
        return Task(Question("q", "?", ("a",)), Candidates("q", (Passage("p", "", text),)))

    asked: list[int] = []

    def compute(tasks: Any) -> list[str]:
        asked.append(len(tasks))
        return [t.candidates.passages[0].text for t in tasks]

    known = Known(used=True)
    assert known.of("a", [task("x")], compute) == known.of("a", [task("x")], compute) == ["x"]
    assert known.of("a", [task("y")], compute) == ["y"] and known.of("b", [task("y")], compute) == ["y"]
    assert asked == [1, 1, 1]


def test_questions_of_two_files_that_share_an_id_are_told_apart() -> None:
    read = Candidates("q1", (Passage("1", "Mill", "Teme built the mill."),))
    built, burnt = (Task(Question("q1", f"Who {did} the mill?", ("a",)), read) for did in ("built", "burnt"))
    known = Known(used=True)

    def asked(tasks: Sequence[Task]) -> list[str]:
        return [task.question.question for task in tasks]

    assert known.of("selected", [built], asked) != known.of("selected", [burnt], asked)
