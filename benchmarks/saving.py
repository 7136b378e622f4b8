"""How long training waits for its saves, at about 100 M parameters, as one JSON line.

    python -m benchmarks.saving [--processes 2 --strategy ddp --before CHECKOUT]

A warm-up of a selector and a generator of that size, six updates each, every third of which is saved; the
last one ends the fit. Seconds that training spent in the checkpointer (of several processes, which share
the models out by fsdp2 unless `--strategy` says otherwise, the slowest's): in all (`wait`), a save in the
middle of a fit (weights and moments), the one at its end (weights), and the iteration's; what is left of
the save before is waited for first, and counts in all alone. `memory`: MiB that the first process had
allocated more in the save of a fit's end than before it. `memory_behind`, `stopped`: the same, and the
longest that a thread of it could not run, from a save in the middle of a fit until that is written,
training included. Each is the median, the least and the greatest. `--before` is a folder with another version
of the code, which is timed in turn with ours; `ratio` is its time over ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

HERE = Path(__file__).resolve().parent.parent
_SAVES = (
    *("save_fit", "save_shard", "save_snapshot", "save_history", "save_samples", "save_vanilla"),
    *("save_iteration", "finish", "close"),
)
_MIDDLE, _END = "middle of a fit", "end of a fit"
Trained: TypeAlias = tuple[list[tuple[str, float]], dict[str, list[tuple[float, float]]]]
"""Each save with its seconds; MiB and seconds of each kind of save that is watched."""


def world(folder: Path, width: int, layers: int) -> Path:
    """A config over eight questions."""
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
    settings = ScratchModel(width=width, layers=layers, heads=12, vocabulary=8192)
    model = str(scratch_model(settings, (str(r["text"]) for r in corpus), folder / "models", 0))
    fit = {"learning_rate": 1e-4, "batch_size": 2, "epochs": 1.5}
    role = {"passage_tokens": 24, "question_tokens": 16}
    config = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "threads": 1,
        "data": {name: str(folder / f"{name}.jsonl") for name in ("train", "validation", "corpus")},
        "top_n": 3,
        "selector": {**role, "model": model, "prompt": "tiny-selector", "k": 2},
        "generator": {**role, "model": model, "prompt": "tiny-generator", "answer_tokens": 4},
        "warm_up": {"selector": fit, "generator": fit},
        "iterations": 0,
        "evaluation": {"samples": 2, "tight_samples": None},
        "checkpoints": {"every": 3},
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
    watching: dict[str, Watch] = {}
    seen: dict[str, list[tuple[float, float]]] = {_MIDDLE: [], _END: []}

    def timed(name: str, own: Any) -> Any:
        def save(*arguments: Any) -> Any:
            kind = name
            if name == "save_fit":
                step, steps = arguments[3].step, arguments[3].steps
                kind = _END if step == steps else _MIDDLE if step % 3 == 0 else name
            begun = time.monotonic()
            if kind in seen:  # what is left of the save before is not its own
                arguments[0]._store.settle()
                waited.append((name, time.monotonic() - begun))
            if kind == _END:
                seen[_MIDDLE].append(watching[_MIDDLE].over())
            if kind in seen:
                watching[kind] = Watch()
            begun = time.monotonic()
            try:
                return own(*arguments)
            finally:
                waited.append((kind, time.monotonic() - begun))
                if kind == _END:
                    seen[_END].append(watching[_END].over())

        return save

    for name in _SAVES:
        if hasattr(RunCheckpointer, name):
            setattr(RunCheckpointer, name, timed(name, getattr(RunCheckpointer, name)))
    begun = time.monotonic()
    run(load_config(config, [f"parallel.strategy={strategy}"]))
    said = {"waited": waited, "seen": seen, "wall": time.monotonic() - begun}
    config.with_name(f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(said), encoding="utf-8")


class Watch:
    """What this process allocates from here on, and how long a thread of it has to wait for its turn."""

    def __init__(self) -> None:
        self._before = self._peak = _allocated()
        self._longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.01):
            self._peak, now = max(self._peak, _allocated()), time.monotonic()
            self._longest, last = max(self._longest, now - last), now

    def over(self) -> tuple[float, float]:
        """MiB, at most, beyond what there was before; the longest wait, in seconds."""
        self._over.set()
        self._thread.join()
        return max(self._peak, _allocated()) - self._before, self._longest


def _allocated() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def trained(code: Path, made: Path, processes: int, strategy: str = "ddp") -> Trained:
    """Train with `code`; what the slowest process waited for each save, and what was seen in the first."""
    for old in made.parent.glob("[0-9].json"):
        old.unlink()
    subprocess.run(["rm", "-r", "-f", str(made.parent / "runs")], check=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), __file__, "--measure", str(made)]
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--strategy", strategy], env=environment, cwd=made.parent, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    said = [json.loads(path.read_text()) for path in sorted(made.parent.glob("[0-9].json"))]
    each = [one["waited"] for one in said]
    return [max(saves, key=lambda save: save[1]) for saves in zip(*each, strict=True)], said[0]["seen"]


def summary(turns: list[Trained]) -> dict[str, list[float]]:
    """Seconds and MiB: the median, the least and the greatest of all fits of all turns."""

    def seconds(kind: str) -> list[float]:
        return _spread(s for waited, _ in turns for name, s in waited if name == kind)

    def measurements(kind: str, which: int) -> list[float]:
        return _spread(both[which] for _, seen in turns for both in seen[kind])

    return {
        "wait": _spread(sum(s for _, s in waited) for waited, _ in turns),
        "middle_of_a_fit": seconds(_MIDDLE),
        "end_of_a_fit": seconds(_END),
        "iteration": seconds("save_iteration"),
        "memory": measurements(_END, 0),
        "memory_behind": measurements(_MIDDLE, 0),
        "stopped": measurements(_MIDDLE, 1),
    }


def _spread(values: Iterable[float]) -> list[float]:
    each = list(values)
    return [round(value, 3) for value in (median(each), min(each), max(each))]


def ratios(ours: list[Trained], before: list[Trained]) -> dict[str, list[float]]:
    """How often as long training waited before, turn by turn, by the turns' medians."""
    both = [(summary([one]), summary([other])) for one, other in zip(ours, before, strict=True)]
    kinds = ("wait", "middle_of_a_fit", "end_of_a_fit")
    return {kind: _spread(then[kind][0] / max(now[kind][0], 0.001) for now, then in both) for kind in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=13)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--strategy")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.strategy)
        return
    strategy = arguments.strategy or ("fsdp2" if arguments.processes > 1 else "ddp")
    sides = {"ours": HERE, **({"before": arguments.before.resolve()} if arguments.before else {})}
    times: dict[str, list[Trained]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        made = world(Path(folder), arguments.width, arguments.layers)
        for _ in range(arguments.turns):
            for name, code in sides.items():
                times[name].append(trained(code, made, arguments.processes, strategy))
                print(json.dumps({name: summary(times[name][-1:])}), file=sys.stderr, flush=True)
    said = {name: summary(turns) for name, turns in times.items()}
    if arguments.before:
        said["ratio"] = ratios(times["ours"], times["before"])
    print(json.dumps({"benchmark": "saving", "processes": arguments.processes, "strategy": strategy, **said}))


if __name__ == "__main__":
    main()
