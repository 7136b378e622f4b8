"""Runs that ask more than once in two processes, and with three adapters on one base."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import ragdro
from ragdro.runs.status import read_results
from tests.paths import far_questions
from tests.pipeline.crash import Command
from tests.pipeline.path_config import path_config
from tests.pipeline.processes import assert_equal_runs

RETRIEVAL = {"rounds": 2, "k": [1, 2], "stop": True, "rewrite_first": True}
ROLES = ("selector", "generator", "rewriter")


def config(folder: Path, **changes: Any) -> Path:
    """One iteration whose first query is written as well, on six questions: shards of two."""
    kept = {"every": 1, "keep": "all"}
    return path_config(folder, retrieval=RETRIEVAL, iterations=1, checkpoints=kept, **changes)


def test_two_processes_leave_what_one_leaves(tmp_path: Path) -> None:
    path = config(tmp_path)
    alone = Command(tmp_path, "train", str(path), "name=alone")
    assert alone.wait() == 0, alone.said
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "ragdro", "train", str(path), "name=both"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_equal_runs(tmp_path / "runs/alone", tmp_path / "runs/both", pairs=3)
    assert json.loads((tmp_path / "runs/both/environment.json").read_text())["processes"] == 2
    results = read_results(tmp_path / "runs/both")
    assert results["iterations"][0]["kl_to_previous"] > 0


def test_three_adapters_on_one_base(tmp_path: Path) -> None:
    """Each learns its own; the base is one; what was saved answers as what was trained."""
    path = config(tmp_path)
    adapter = {"rank": 2}
    overrides = [f"{role}.model={tmp_path / 'selector'}" for role in ROLES]
    overrides += [f"{role}.adapter={json.dumps(adapter)}" for role in ROLES]
    settings = ragdro.load_config(path, [*overrides, "shared_backbone=true", "name=shared"])
    results = ragdro.run(settings)
    run = tmp_path / "runs/shared"
    rag = ragdro.load(run)
    assert rag.asking is not None
    models = rag.selector.model, rag.generator.model, rag.asking.rewriter.model
    assert len({id(m.hf) for m in models}) == 1 and len({m.adapter for m in models}) == 3
    saved = {role: load_file(next((run / "best" / role).glob("*.safetensors"))) for role in ROLES}
    first = {
        role: load_file(next((run / "checkpoints/iteration-0" / role).glob("*.safetensors")))
        for role in ROLES
    }
    for role, tensors in first.items():
        assert all("lora" in name for name in tensors)
        assert any(bool(tensor.abs().sum() > 0) for name, tensor in tensors.items() if "lora_B" in name), role
    for role in ("generator", "rewriter"):
        assert any(not torch.equal(saved["selector"][key], t) for key, t in saved[role].items()), role
    best = results["best"]["iteration"]
    lines = (run / f"predictions-{f'iteration-{best}' if best else 'warm_up'}.jsonl").read_text().splitlines()
    records = {record["id"]: record for record in map(json.loads, lines)}
    for question in far_questions(8)[6:]:
        (prediction,) = rag.answer_many([question])
        assert prediction.selection.path is not None
        asked = [one.query for one in prediction.selection.path.rounds]
        assert asked == [one["query"] for one in records[question.id]["path"]]
        assert prediction.answer == records[question.id]["answer"]
