"""Runs that two processes share unevenly, and what makes two runs equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torch import Tensor

from tests.pipeline.crash import Processes
from tests.pipeline.test_train import write_config

HALF = ("selector.dtype=bfloat16", "generator.amp=bfloat16")
"""Products in bfloat16, as either key asks for them."""


def uneven(folder: Path, **changes: object) -> Path:
    """Shards of two questions and of one, updates of three questions and of one, one question to measure."""
    path = write_config(folder, "llama", threads=1, iterations=1, **changes)
    config = yaml.safe_load(path.read_text())
    config["e_step"] = {"samples": 3, "questions": 3, "questions_per_shard": 2}
    config["evaluation"]["questions"] = 1
    config["checkpoints"] = {"every": 1, "keep": "all"}
    for fits in (config["warm_up"], config["m_step"]):
        for role, questions in (("selector", 3), ("generator", 1)):
            fits[role] = {"learning_rate": 1e-4, "batch_size": questions, "epochs": 1.5}
    path.write_text(yaml.safe_dump(config))
    return path


def start(folder: Path, name: str, *options: str, **prepare: object) -> Processes:
    arguments = ("train", str(folder / "config.yaml"), f"name={name}", *options)
    return Processes(folder, *arguments, **prepare)  # type: ignore[arg-type]


def log(run: Path) -> list[dict[str, Any]]:
    """The records; an update that was left out has the gradient of whoever had one, which is no metric."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    left_out = [r for r in records if r["event"] == "update" and r["loss"] is None]
    return [{**r, "gradient_norm": None} if r in left_out else r for r in records]


def assert_equal_runs(run: Path, other: Path, pairs: int = 2) -> None:
    """The same permutations, and metrics, log and the weights of so many `pairs` of models to 1e-4."""
    assert close(
        json.loads((run / "results.json").read_text()), json.loads((other / "results.json").read_text())
    )
    assert close(log(run), log(other))
    models = sorted(p.relative_to(run) for p in run.glob("checkpoints/*/*"))
    assert len(models) == 2 * pairs
    for path in models:
        tensors, other_tensors = weights(run / path), weights(other / path)
        assert tensors and tensors.keys() == other_tensors.keys()
        for key, tensor in tensors.items():
            assert float((tensor - other_tensors[key]).abs().max()) <= 1e-4, (path, key)
    for path in run.glob("predictions-*.jsonl"):
        predictions = [
            [json.loads(x) for x in (r / path.name).read_text().splitlines()] for r in (run, other)
        ]
        assert close(*predictions)


def weights(model: Path) -> dict[str, Tensor]:
    """All tensors in a model's folder, each of which is in one file."""
    tensors = [one for path in model.glob("*.safetensors") for one in load_file(path).items()]
    assert len({name for name, _ in tensors}) == len(tensors)
    return dict(tensors)


def close(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    floats = isinstance(a, float) and isinstance(b, float)  # what is not finite is null in the log
    return bool(a == pytest.approx(b, abs=1e-4, rel=1e-4)) if floats else bool(a == b)


def losses(run: Path) -> list[float]:
    return [r["loss"] for r in log(run) if r["event"] == "update"]
