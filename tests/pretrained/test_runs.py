"""Updates, resuming and exporting with real weights, of which the first layers are enough here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import ragdro
from ragdro.algorithms.examples import TrainingExample
from ragdro.config import Optimisation
from ragdro.lm.scoring import score_all
from ragdro.report.export import export_run
from ragdro.system import reading
from ragdro.training.m_step import fit
from ragdro.types import Task
from tests.pipeline.crash import KILLED, Command, die_at_sync, outcome
from tests.pretrained.conftest import Load, generator_of, real_tasks, selector_of
from tests.pretrained.test_numbers import LISTS, MAX_TOKENS, log_prob

ROLES = ("selector", "generator")
WEIGHTS = (0.5, 0.3, 0.15, 0.05)


@pytest.mark.parametrize("role", ROLES)
def test_an_update_moves_the_weights_and_lowers_the_loss(role: str, load: Load) -> None:
    model, tasks = load(layers=4), real_tasks()[:2]
    selector, generator = selector_of(model), generator_of(model)

    def example(i: int) -> TrainingExample:
        task = tasks[i]
        if role == "selector":
            return TrainingExample(task.question.id, selector.group(task, LISTS), WEIGHTS)
        return TrainingExample(task.question.id, generator.group([reading(task, z) for z in LISTS]), WEIGHTS)

    def loss() -> float:
        scores = score_all(model, [example(i).group for i in range(2)], MAX_TOKENS)
        return -float((np.array(scores) * WEIGHTS).sum()) / 2

    before, weights = loss(), [p.detach().clone() for p in model.hf.parameters()]
    settings = Optimisation(learning_rate=1e-4, batch_size=2, warm_up_fraction=0.0)
    fit(model, 2, example, settings, np.random.default_rng(0))
    moved = [bool((p.detach() != w).any()) for p, w in zip(model.hf.parameters(), weights, strict=True)]
    assert all(moved)
    assert loss() < before - 0.01


def record(task: Task) -> str:
    gold = {p.id for p in task.question.gold_passages}
    passages = [{"title": p.title, "text": p.text, "gold": p.id in gold} for p in task.candidates.passages]
    asked = task.question
    return json.dumps(
        {"id": asked.id, "question": asked.question, "answers": asked.answers, "passages": passages}
    )


def write_config(folder: Path, checkpoint: Path) -> Path:
    """Two questions to train on and one to measure; two layers, an adapter each, saved after every update."""
    tasks = real_tasks()
    (folder / "train.jsonl").write_text("".join(record(t) + "\n" for t in tasks[:2]))
    (folder / "validation.jsonl").write_text(record(tasks[2]) + "\n")
    optimisation = {"learning_rate": 1e-3, "batch_size": 1}
    role = {"model": str(checkpoint), "layers": 2, "adapter": "lora", "passage_tokens": 40}
    config = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {"train": str(folder / "train.jsonl"), "validation": str(folder / "validation.jsonl")},
        "retriever": {"kind": "given"},
        "top_n": 6,
        "selector": {**role, "k": 2},
        "generator": {**role, "answer_tokens": 8},
        "warm_up": dict.fromkeys(ROLES, optimisation),
        "m_step": dict.fromkeys(ROLES, optimisation),
        "e_step": {"samples": 3, "questions_per_shard": 1},
        "evaluation": {"samples": 3, "tight_samples": None},
        "checkpoints": {"every": 1},
        "iterations": 1,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def run(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ragdro.run(ragdro.load_config(write_config(folder, checkpoint)))
    return folder / "runs/run"


def test_a_run_killed_in_the_middle_ends_as_one_that_was_not(
    run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    config = str(write_config(tmp_path, checkpoint))
    assert Command(tmp_path, "train", config, prepare=die_at_sync, given=40).wait() == KILLED
    assert not (tmp_path / "runs/run/results.json").exists()
    resumed = Command(tmp_path, "train", config, "--resume")
    assert resumed.wait() == 0, resumed.said
    assert outcome(tmp_path / "runs/run") == outcome(run)


def test_what_is_exported_has_the_runs_log_probabilities_in_transformers_alone(
    run: Path, checkpoint: Path, tmp_path: Path
) -> None:
    folders = export_run(run, tmp_path / "out")
    rag, task = ragdro.load(run), real_tasks()[3]
    sequences = (rag.selector.scored(task, (4, 1)), rag.generator.scored(reading(task, (4, 1))))
    groups = (rag.selector.group(task, [(4, 1)]), rag.generator.group([reading(task, (4, 1))]))
    for role, sequence, group in zip(ROLES, sequences, groups, strict=True):
        model = getattr(rag, role).model
        ours = score_all(model, [group], MAX_TOKENS)[0][0]
        hf = AutoModelForCausalLM.from_pretrained(folders[role], dtype=torch.float32)
        assert not any("lora" in name for name, _ in hf.named_parameters())
        assert ours == pytest.approx(log_prob(type("Plain", (), {"hf": hf}), sequence), abs=1e-3)  # type: ignore[arg-type]
        exported, original = map(AutoTokenizer.from_pretrained, (folders[role], checkpoint))
        assert exported.chat_template == original.chat_template
        assert exported(task.question.question)["input_ids"] == original(task.question.question)["input_ids"]
