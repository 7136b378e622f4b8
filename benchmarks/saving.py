"""How long training waits for its saves, at about 100 M parameters, as one JSON line.

    python -m benchmarks.saving [--processes 2 --before CHECKOUT]

A selector's warm-up of six updates, every second of which is saved; the last one ends the fit. Seconds that
training spent in the checkpointer (of several processes, which share the model out by fsdp2, the slowest's):
in all (`wait`), a save in the middle of a fit (weights and moments), the one at its end (weights), and the
iteration's. `--before` is a folder with another version of the code, which is timed in turn with ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent.parent
_SAVES = ("save_fit", "save_shard", "save_vanilla", "save_iteration", "finish", "close")


def world(folder: Path, width: int, layers: int) -> Path:
    """A config over eight questions; the selector is to be waited for, the generator is small."""
    from ragdro.config.models import ScratchModel
    from ragdro.lm.scratch import scratch_model

    corpus = [
        {"id": f"p{i}", "title": f"Firm {i}", "text": f"Mara{i} works for Firm {i}, which is in Town{i}."}
        for i in range(8)
    ]
    questions = [
        {"id": f"q{i}", "question": f"Where does Mara{i} work?", "answers": [f"Firm {i}"]} for i in range(8)
    ]
    for name, records in (("corpus", corpus), ("train", questions), ("validation", questions[:1])):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    models = [
        scratch_model(settings, (str(r["text"]) for r in corpus), folder / "models", 0)
        for settings in (
            ScratchModel(width=width, layers=layers, heads=12, vocabulary=8192),
            ScratchModel(width=24, layers=1, heads=2, vocabulary=500),
        )
    ]
    fit = {"learning_rate": 1e-4, "batch_size": 2, "epochs": 1.5}
    role = {"passage_tokens": 24, "question_tokens": 16}
    config = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {name: str(folder / f"{name}.jsonl") for name in ("train", "validation", "corpus")},
        "top_n": 3,
        "selector": {**role, "model": str(models[0]), "prompt": "tiny-selector", "k": 2},
        "generator": {**role, "model": str(models[1]), "prompt": "tiny-generator", "answer_tokens": 4},
        "warm_up": {"selector": fit, "generator": None},
        "iterations": 0,
        "evaluation": {"samples": 2, "tight_samples": None},
        "checkpoints": {"every": 2},
    }
    path = folder / "config.yaml"  # JSON is YAML
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def measure(config: Path, strategy: str) -> None:
    """One of the processes: trains, and leaves `RANK.json` beside the config."""
    from ragdro.config import load_config
    from ragdro.runs.checkpointer import RunCheckpointer
    from ragdro.runs.run import run

    waited: list[tuple[str, float]] = []

    def timed(name: str, own: Any) -> Any:
        def save(*arguments: Any) -> Any:
            begun = time.monotonic()
            try:
                return own(*arguments)
            finally:
                waited.append((name, time.monotonic() - begun))

        return save

    for name in _SAVES:
        if hasattr(RunCheckpointer, name):
            setattr(RunCheckpointer, name, timed(name, getattr(RunCheckpointer, name)))
    begun = time.monotonic()
    run(load_config(config, [f"parallel.strategy={strategy}"]))
    said = {"waited": waited, "wall": time.monotonic() - begun}
    config.with_name(f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(said), encoding="utf-8")


def trained(code: Path, made: Path, processes: int) -> list[tuple[str, float]]:
    """Train with `code`; what the slowest process waited for each save."""
    for old in made.parent.glob("[0-9].json"):
        old.unlink()
    subprocess.run(["rm", "-r", "-f", str(made.parent / "runs")], check=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    strategy = "fsdp2" if processes > 1 else "ddp"
    command = [sys.executable, *(launch if processes > 1 else []), __file__, "--measure", str(made)]
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--strategy", strategy], env=environment, cwd=made.parent, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    each = [json.loads(path.read_text())["waited"] for path in sorted(made.parent.glob("[0-9].json"))]
    return [max(saves, key=lambda save: save[1]) for saves in zip(*each, strict=True)]


def summary(turns: list[list[tuple[str, float]]]) -> dict[str, Any]:
    """Seconds, the median of the turns."""
    fits = [[seconds for name, seconds in turn if name == "save_fit"] for turn in turns]
    return {
        "wait": round(median(sum(seconds for _, seconds in turn) for turn in turns), 2),
        "middle_of_a_fit": round(median(seconds for saves in fits for seconds in saves[1:-1:2]), 2),
        "end_of_a_fit": round(median(saves[-1] for saves in fits), 2),
        "iteration": round(median(s for turn in turns for name, s in turn if name == "save_iteration"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--strategy", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.strategy)
        return
    sides = {"ours": HERE, **({"before": arguments.before.resolve()} if arguments.before else {})}
    times: dict[str, list[list[tuple[str, float]]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        made = world(Path(folder), arguments.width, arguments.layers)
        for _ in range(arguments.turns):
            for name, code in sides.items():
                times[name].append(trained(code, made, arguments.processes))
    said = {name: summary(turns) for name, turns in times.items()}
    print(json.dumps({"benchmark": "saving", "processes": arguments.processes, **said}))


if __name__ == "__main__":
    main()
