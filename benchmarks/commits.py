"""What a save of an E-step's shard takes as a run grows, as one JSON line.

    python -m benchmarks.commits [--commits 2000 --before CHECKOUT]

A shard of 256 questions is put and committed so many times, as over the iterations of a long run.
Milliseconds a commit, of the clock and of the processor, the median of the first fifty and of the last fifty,
and seconds in all. `--before` is a folder with another version of the code, which does the same here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent.parent
_ENDS = 50
_SHARD = [{"id": f"q{i}", "samples": [[[3, 1, 2, 5, 4], -1.5, -1.5, -2.5, 0.125]] * 8} for i in range(256)]


def measure(folder: Path, commits: int) -> dict[str, Any]:
    """Commit so many shards; what the commits alone took."""
    states = import_module("ragdro.runs.state")  # of either version of the code
    store, state = states.StateStore(folder), states.State()
    clock: list[float] = []
    processor: list[float] = []
    for number in range(commits):
        store.put_json(state, f"shard-{number}", _SHARD)
        begun = time.perf_counter(), time.process_time()
        store.commit(state)
        clock.append(time.perf_counter() - begun[0])
        processor.append(time.process_time() - begun[1])
    return {
        name: {
            "first_ms": round(1000 * median(seconds[:_ENDS]), 2),
            "last_ms": round(1000 * median(seconds[-_ENDS:]), 2),
            "seconds": round(sum(seconds), 2),
        }
        for name, seconds in (("clock", clock), ("processor", processor))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--commits", type=int, default=2000)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.commits)))
        return
    sides = {"ours": HERE, **({"before": arguments.before.resolve()} if arguments.before else {})}
    measured: dict[str, Any] = {}
    for name, code in sides.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--commits", str(arguments.commits), "--measure", folder]
            environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        measured[name] = json.loads(done.stdout)
    print(json.dumps({"benchmark": "commits", "commits": arguments.commits, **measured}))


if __name__ == "__main__":
    main()
