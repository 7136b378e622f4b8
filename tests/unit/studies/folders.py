"""Run folders as `train` leaves them, with metrics of our choice and no model behind them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ragdro.config import dump_config, load_config
from ragdro.studies.records import Run

CONFIG = Path(__file__).parents[3] / "configs" / "tiny.yaml"


def metrics(value: float, bound: float | None = -1.0) -> dict[str, Any]:
    """Every share is `value`."""
    shares = ("exact_match", "f1", "recall_at_1", "recall_at_3", "recall_at_5", "full_recall")
    return {**dict.fromkeys(shares, value), "bound": bound, "effective_sample_size": 2.0, "questions": 10}


def write_run(
    folder: Path, shares: list[float], bounds: list[float], overrides: tuple[str, ...] = ()
) -> Path:
    """A finished run whose stages, the warm-up first, have these metrics; the best is the first highest of
    those that `evaluation.every` measures."""
    folder.mkdir(parents=True)
    config = load_config(CONFIG, [*overrides, f"name={folder.name}", f"runs={folder.parent}"])
    (folder / "config.yaml").write_text(dump_config(config))
    stages = [metrics(s, b) for s, b in zip(shares, bounds, strict=True)]
    every, last = config.evaluation.every, len(stages) - 1
    measured = [i for i in range(len(stages)) if i % every == 0 or i == last]
    best = max(measured, key=lambda i: (shares[i], -i))
    results = {
        "vanilla_rag": metrics(0.1, None),
        "warm_up": stages[0],
        "iterations": [{"iteration": i, **stages[i]} for i in measured if i],
        "best": {"iteration": best, **metrics(shares[best], bounds[best])},
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in _records(stages, measured)))
    return folder


def _records(stages: list[dict[str, Any]], measured: list[int]) -> list[dict[str, Any]]:
    """Ten seconds a warm-up, 3 an E-step, 4 an M-step, 2 to measure; the training bound is a nat lower."""
    clock = 10.0
    records: list[dict[str, Any]] = []
    for number, stage in enumerate(stages):
        name = f"iteration-{number}" if number else "warm_up"
        if number:
            clock += 3
            records.append({"event": "shard", "stage": name, "questions": 64, "of": 64, "seconds": clock})
            metrics = {"bound": stage["bound"] - 1, "effective_sample_size": float(number)}
            records.append({"event": "e_step", "stage": name, "questions": 64, **metrics, "seconds": clock})
            clock += 4
        update = {"event": "update", "stage": name, "role": "selector", "step": 1, "steps": 1}
        records.append({**update, "seconds": clock})
        for split in ("validation", "reported") if number in measured else ():
            place = {"stage": name, "split": split}
            records.append({"event": "breakdown", **place, "by_hops": {}, "seconds": clock + 0.5})
            clock += 1
            records.append({"event": "evaluation", **place, **stage, "seconds": clock})
    return records


def run(
    folder: Path,
    shares: list[float],
    bounds: list[float] | None = None,
    *overrides: str,
    measured: Any = None,
) -> Run:
    """`write_run`, read back."""
    path = write_run(folder, shares, bounds or [-1.0] * len(shares), overrides)
    if measured is None:
        return Run.read(path, None)
    file = folder.parent / f"{folder.name}-measured.json"
    file.write_text(json.dumps(measured))
    return Run.read(path, file)
