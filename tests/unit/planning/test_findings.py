"""What is said of questions, candidates and sizes, each with a right and a wrong case, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ragdro.config import Config, load_config
from ragdro.planning import findings, machine
from ragdro.planning.findings import Finding
from ragdro.prompts.template import CutCounts
from ragdro.types import Candidates, Question, Task
from tests.worlds import pocket_tasks

ROOT = Path(__file__).parents[3]


def scored(tasks: list[Task], score: float) -> list[Task]:
    return [
        replace(t, candidates=replace(t.candidates, scores=(score,) * len(t.candidates.passages)))
        for t in tasks
    ]


def test_questions_without_answers_are_a_problem() -> None:
    questions = [task.question for task in pocket_tasks(3, 5)]
    assert findings.check_answers("train", questions).level == "ok"
    found = findings.check_answers("train", [*questions, Question("bare", "why?", ())])
    assert found == Finding("train", "problem", "without an answer: 1 of 4 questions, such as 'bare'")


def test_questions_of_two_splits_are_a_problem_whatever_their_case() -> None:
    one, two = [Question("a", "Who is it?", ("x",))], [Question("b", " who IS  it? ", ("y",))]
    found = findings.check_overlap({"train": one, "validation": two})
    assert found.level == "problem" and "in both train and validation: 1 question, such" in found.text
    other = [Question("c", "Who was it?", ("x",))]
    assert findings.check_overlap({"train": one, "validation": other}).level == "ok"


def test_fewer_candidates_are_a_note_and_single_ones_a_problem() -> None:
    tasks = pocket_tasks(3, 5)
    alone = [replace(t, candidates=replace(t.candidates, passages=t.candidates.passages[:1])) for t in tasks]
    assert findings.check_number(alone, 5).level == "problem"
    assert findings.check_number([*alone, tasks[0]], 5).level == "note"
    assert findings.check_number(tasks, 5).level == "ok"
    found = findings.check_number([*tasks, *pocket_tasks(1, 4)], 5)
    assert found.level == "note" and found.text.startswith(
        "fewer than N = 5: 1 of 4 questions (the fewest: 4)"
    )


@pytest.mark.parametrize(("nothing", "level"), [(0, "ok"), (1, "note"), (2, "problem")])
def test_questions_that_match_nothing(nothing: int, level: str) -> None:
    tasks = pocket_tasks(10, 5)
    found = findings.check_matches([*scored(tasks[:nothing], 0.0), *scored(tasks[nothing:], 1.5)])
    assert found.level == level
    assert findings.check_matches(tasks).level == "ok"  # no scores: nothing is known


def test_the_recall_ceiling_counts_gold_passages_and_else_answers() -> None:
    tasks = pocket_tasks(4, 5)
    assert findings.check_recall(tasks).text.startswith(
        "1.000 of the gold passages among the candidates (4 questions)"
    )
    half = [replace(t, candidates=replace(t.candidates, passages=t.candidates.passages[:3])) for t in tasks]
    assert (
        findings.check_recall(half).text.startswith("0.500 of the gold passages")
        and findings.check_recall(half).level == "ok"
    )
    none = [replace(t, candidates=replace(t.candidates, passages=t.candidates.passages[:2])) for t in tasks]
    assert findings.check_recall(none).level == "problem"
    asked_again = findings.check_recall(none, rounds=2)
    assert asked_again.level == "ok" and "of the first search" in asked_again.text
    unlabelled = [replace(t, question=replace(t.question, passages=())) for t in tasks[:3]]
    lost = replace(unlabelled[0], candidates=Candidates("q0", tasks[0].candidates.passages[:2]))
    found = findings.check_recall([lost, *unlabelled[1:]])
    assert found.text.startswith("0.667 of the questions with an answer in a candidate (3 questions)")


@pytest.mark.parametrize(("cut", "level"), [(0, "ok"), (10, "note"), (11, "problem")])
def test_many_texts_that_are_cut_are_a_problem(cut: int, level: str) -> None:
    counts = CutCounts(questions=50, passages=100, passages_cut=cut)
    found = findings.check_cuts("selector", counts)
    assert found.level == level
    if cut:
        assert found.text == f"{cut / 100:.3f} of the passages are cut; raise selector.passage_tokens"


def test_a_sample_is_no_larger_than_asked_and_evenly_spread() -> None:
    assert findings.sample(list(range(10)), 4) == [0, 3, 6, 9]
    assert findings.sample(list(range(3)), 4) == [0, 1, 2] and findings.sample([], 4) == []


def config(**changes: object) -> Config:
    return load_config(ROOT / "configs/tiny.yaml", [f"{key}={value}" for key, value in changes.items()])


def test_a_device_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_device(config(device="cpu")).level == "ok"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.check_device(config(device="cuda")).level == "problem"
    assert (
        machine.memory_of(torch.device("cuda")) is None
        and (machine.memory_of(torch.device("cpu")) or 0) > 2**28
    )


def test_memory_is_held_against_the_device() -> None:
    planned = {
        "memory": 2.0**30,
        "phases": {"sampling": {"memory": 1.0}, "selector update": {"memory": 2.0**30}},
    }
    assert machine.check_memory(planned, 2**31).level == "ok"
    found = machine.check_memory(planned, 2**29)
    assert found == Finding("memory", "problem", "1.0 GiB planned (selector update), 512 MiB there")
    assert machine.check_memory(planned, None).level == "note"


def test_the_disk_needs_every_checkpoint_and_two_states() -> None:
    update = {"gradients": 10.0, "optimiser": 20.0}
    planned = {"phases": {"selector update": update, "generator update": update}}
    weights = {"selector": 100, "generator": 1000}
    every = config(iterations=7, **{"checkpoints.keep": "all"})
    assert machine.bytes_to_write(every, planned, weights) == 8 * 1100 + 2 * 60
    few = config(iterations=7, **{"checkpoints.keep": "best_and_last"})
    assert machine.bytes_to_write(few, planned, weights) == 3 * 1100 + 2 * 60
    adapted = config(iterations=7, **{"checkpoints.keep": "best_and_last", "selector.adapter": "lora"})
    assert machine.bytes_to_write(adapted, planned, weights) == 3 * 1010 + 2 * 60


def test_disk_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert machine.check_disk(tmp_path / "not" / "yet", 1.0).level == "ok"
    assert machine.check_disk(tmp_path / "not" / "yet", 1e18).level == "problem"
