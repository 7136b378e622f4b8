"""A run at the paper's length with the smallest possible model, as one JSON line: what the host costs.

    python -m benchmarks.flight [--questions 90185 --fractions 16 4 1]

Each size is generated (20 passages a question, none of them twice), trained by `ragdro train` with m = 8,
ended by SIGTERM in the middle of the selector's M-step and resumed. Of each: processor seconds and
milliseconds a question by phase (all threads of the process; the model is one layer of width 8, so nearly all
of it is our own work; `save` is what training waits for, and what is written behind it counts to the phase of
the moment), milliseconds of measuring a validation question in a stage, resident memory of each phase when it
was first and last looked at and its peak, files and bytes in the run folder and the cache, what it takes
until the resumed run takes its next update.
`exponent`, of three sizes or more: the slope of log seconds over log questions, once what no question causes
is taken off; 1 is linear. `--an-iteration` has an iteration take (and measure) a part of the questions: all
are still read, tokenised and held.
A full flight takes forty minutes of one core, without a warm-up.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
QUESTIONS = 90_185
PASSAGES = 20
VALIDATION = 12
"""Training questions for one to validate, as in the paper's HotpotQA."""
_SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "so", "ti")
_PREEMPTED = 75
_PROMPTS = {
    "selector": {
        "user": "Question: {question}\n\n{passages}\nQuestion: {question}\nSelection:",
        "passage": "[{identifier}] {title}\n{text}\n",
        "start": " ",
    },
    "generator": {
        "user": "{passages}\nQuestion: {question}\nAnswer:",
        "passage": "{title}\n{text}\n\n",
        "start": " ",
    },
}
"""The default prompts without their instructions."""


def questions(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many, each with its candidates, one of which holds the answer."""
    rng = random.Random(seed)
    words = [a + b for a in _SYLLABLES for b in _SYLLABLES]
    for i in range(count):
        texts = [" ".join(rng.choices(words, k=4)) for _ in range(PASSAGES)]
        passages = [
            {"id": f"p{seed}-{i}-{j}", "title": " ".join(rng.choices(words, k=2)), "text": text}
            for j, text in enumerate(texts)
        ]
        answer = rng.choice(texts).split()[0]
        asked = " ".join(rng.choices(words, k=3))
        yield {"id": f"q{seed}-{i}", "question": asked, "answers": [answer], "candidates": passages}


def _validation(questions: int) -> int:
    """How many are measured beside so many training questions."""
    return max(2, questions // VALIDATION)


def world(folder: Path, count: int, options: argparse.Namespace) -> Path:
    """A config over so many training questions."""
    from ragdro.config.models import ScratchModel
    from ragdro.lm.scratch import scratch_model

    for seed, (name, many) in enumerate({"train": count, "validation": _validation(count)}.items()):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in questions(many, seed))
    smallest = ScratchModel(width=8, layers=1, heads=1, vocabulary=500)
    sample = (" ".join(p["text"] for p in q["candidates"]) for q in questions(200, 2))
    model = scratch_model(smallest, sample, folder / "model", 0)
    for name, words in _PROMPTS.items():
        (folder / f"{name}.yaml").write_text(json.dumps(words), encoding="utf-8")
    role = {"model": str(model), "passage_tokens": 16, "question_tokens": 8}
    fit = dict.fromkeys(_PROMPTS) if options.no_warm_up else {}
    config = {
        "name": "run",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "device": "cpu",
        "threads": 1,
        "data": {name: str(folder / f"{name}.jsonl") for name in ("train", "validation")},
        "retriever": {"kind": "given"},
        "selector": {**role, "prompt": str(folder / "selector.yaml")},
        "generator": {**role, "prompt": str(folder / "generator.yaml"), "answer_tokens": 3},
        "warm_up": fit,
        "iterations": options.iterations,
        "e_step": {"questions": options.an_iteration},
        "evaluation": {"questions": options.an_iteration and _validation(options.an_iteration)},
    }
    path = folder / "config.yaml"  # JSON is YAML
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def fly(config: Path, said: Path, *, resume: bool) -> None:
    """The process of one session: `ragdro train`; leaves what it took in `said`."""
    from ragdro.cli.models import train
    from ragdro.profiling import Profile, profiled

    memory: dict[str, list[int]] = defaultdict(list)
    profile = Profile(1.0, clock=time.process_time)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            memory[profile.phase].append(_resident())

    begun = time.monotonic()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with profiled(profile):
            train(config, dry_run=False, show_config=False, strict=False, resume=resume, profile=False)
    finally:
        ended.set()
        watcher.join()
        seen = {name: {"first": m[0], "last": m[-1], "peak": max(m)} for name, m in memory.items()}
        values = {
            "seconds": dict(profile.seconds),
            "wall": time.monotonic() - begun,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "memory_mib": seen,
        }
        said.write_text(json.dumps(values), encoding="utf-8")


def _resident() -> int:
    """MiB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def session(config: Path, number: int, *, stop_in: str | None = None) -> dict[str, Any]:
    """Start or resume the run; ends it by SIGTERM at the update in the middle of `stop_in`'s selector."""
    said, log = config.with_name(f"session-{number}.json"), config.parent / "runs/run/metrics.jsonl"
    command = [sys.executable, __file__, "--fly", str(config), *(["--resumed"] if number else [])]
    known = log.stat().st_size if number else 0
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    with config.with_name(f"session-{number}.log").open("w") as file:
        child = subprocess.Popen(command, env=environment, cwd=config.parent, stdout=file, stderr=file)
        begun, first = time.monotonic(), None
        for record in _records(log, known, child):
            if first is None and record["event"] == "update":
                first = {"wall": time.monotonic() - begun, "processor": _processor_seconds(child.pid)}
            there = record["event"] == "update" and record["role"] == "selector"
            if there and stop_in == record["stage"] and record["step"] >= record["steps"] // 2:
                child.send_signal(signal.SIGTERM)
                stop_in = None
    expected = _PREEMPTED if number == 0 else 0
    if child.wait() != expected:
        sys.exit(f"{child.args}: exit code {child.returncode}\n{Path(file.name).read_text()[-4000:]}")
    return {**json.loads(said.read_text()), "first_update": first}


def _records(log: Path, known: int, child: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """What the child appends to the log, as it comes, until it ends."""
    while child.poll() is None:
        time.sleep(0.1)
        if not log.exists() or log.stat().st_size <= known:
            continue
        with log.open("rb") as file:
            file.seek(known)
            lines = file.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        known += len(whole)
        yield from map(json.loads, whole.splitlines())


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def files(folder: Path) -> dict[str, Any]:
    """How many files there are below, and their bytes in all and in the largest ones."""
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    return {
        "files": len(sizes),
        "mib": round(sum(sizes.values()) / 2**20, 1),
        "largest_mib": {name: round(sizes[name] / 2**20, 1) for name in largest},
    }


def flown(count: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A whole flight over so many questions."""
    config = world(folder, count, options)
    first = session(config, 0, stop_in=f"iteration-{options.iterations}")
    middle = files(folder / "runs/run/state")
    second = session(config, 1)
    seconds = {
        name: first["seconds"].get(name, 0.0) + second["seconds"].get(name, 0.0)
        for name in {*first["seconds"], *second["seconds"]}
    }
    an_iteration = min(count, options.an_iteration or count)
    measured = _validation(an_iteration) * (1 + options.iterations)  # a warm-up's stage is measured as well
    return {
        "questions": count,
        "an_iteration": an_iteration,
        "iterations": options.iterations,
        "processor_seconds": {n: round(s, 2) for n, s in sorted(seconds.items(), key=lambda item: -item[1])},
        "milliseconds_a_question": {n: round(1000 * s / count, 3) for n, s in seconds.items()},
        "milliseconds_a_question_measured": round(1000 * seconds["evaluate"] / measured, 3),
        "wall_seconds": round(first["wall"] + second["wall"], 1),
        "resume_to_first_update": {name: round(s, 1) for name, s in second["first_update"].items()},
        "peak_mib": [round(one["peak_mib"]) for one in (first, second)],
        "memory_mib": [one["memory_mib"] for one in (first, second)],
        "state_in_the_middle": middle,
        "run": files(folder / "runs/run"),
        "cache": files(folder / "cache"),
    }


def exponents(flights: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By phase: the slope of log seconds over log questions between what the last two sizes have more than
    the size before each."""
    fitted = {}
    for name in flights[-1]["processor_seconds"]:
        points = [(f["questions"], f["processor_seconds"].get(name, 0.0)) for f in flights]
        (n, s), (m, t) = [(b - a, t - s) for (a, s), (b, t) in pairwise(points)][-2:]
        if s > 0.05 and t > 0.05:
            fitted[name] = round(math.log(t / s) / math.log(m / n), 3)
    return fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--fractions", type=int, nargs="+", default=[16, 4, 1])
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--an-iteration", type=int, help="questions that an iteration takes; default: all")
    parser.add_argument("--no-warm-up", action="store_true", help="it is an M-step over one list a question")
    parser.add_argument("--folder", type=Path, help="where the flights' files stay; default: nowhere")
    parser.add_argument("--fly", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resumed", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fly:
        number = int(arguments.resumed)
        fly(arguments.fly, arguments.fly.with_name(f"session-{number}.json"), resume=arguments.resumed)
        return
    flights = []
    with tempfile.TemporaryDirectory() as temporary:
        for fraction in arguments.fractions:
            count = round(arguments.questions / fraction)
            folder = (arguments.folder or Path(temporary)) / f"flight-{count}"
            folder.mkdir(parents=True)
            flights.append(flown(count, folder, arguments))
            print(json.dumps(flights[-1]), file=sys.stderr, flush=True)
    growth = exponents(flights) if len(flights) > 2 else {}
    print(json.dumps({"benchmark": "flight", "exponent": growth, "flights": flights}))


if __name__ == "__main__":
    main()
