"""A running server against the bare models, and many clients against one, as JSON lines.

    python -m benchmarks.serving [--model .models/smollm2-135m-instruct] [--route /v1/rerank] [--rate 0.5 1.5]
    python -m benchmarks.serving --memory 10000

A server of the pair runs in a process of its own; locust asks it (the extra `load`), first one client, then
32, and holds every answer against the one that was asked alone. In turn with that the same questions go to
the models directly, one at a time and as one batch. So each turn has four measurements: what 32 clients gain
over one, what there is to gain (`ceiling`: the bare batch against bare single questions), what the server
adds to a warm question, and p95 against the batch's own time. Ratios are medians over turns, with the least
and the greatest. On a machine that does other things, too, the ratios of processor time (`cpu_`) say more.
`--rate`: then requests come in at these fractions of what 32 clients got, one client each, whatever is
answered; what they waited is said in seconds and over a warm question's time. `--memory`: resident memory
over so many small requests.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import torch

import ragdro
from benchmarks.essence import essence
from ragdro.selection import tournament
from ragdro.sources import resolve
from ragdro.system import Rag
from ragdro.types import Candidates, Passage, Question, Task
from tests.serving import Server, exported_folder

CLIENTS = 32
CHAT, RERANK = "/v1/chat/completions", "/v1/rerank"


@dataclass(frozen=True)
class Asked:
    """Requests as clients send them, and the same as the models are asked directly."""

    route: str
    bodies: list[dict[str, Any]]
    tasks: list[Task]


def questions(route: str, count: int, documents: int) -> Asked:
    """The embedded world's first test questions, each with documents of its corpus."""
    lines = Path(resolve("tiny:test")).read_text().splitlines()[:count]
    corpus = [json.loads(line)["text"] for line in Path(resolve("tiny:corpus")).read_text().splitlines()]
    bodies: list[dict[str, Any]] = []
    tasks: list[Task] = []
    for place, line in enumerate(lines):
        question = json.loads(line)["question"]
        texts = [corpus[(place * documents + i) % len(corpus)] for i in range(documents)]
        passages = tuple(Passage(str(i), "", text) for i, text in enumerate(texts))
        if route == RERANK:
            bodies.append({"query": question, "documents": texts})
        else:
            turn = {"role": "user", "content": question}
            bodies.append({"messages": [turn], "documents": texts})
        tasks.append(Task(Question(str(place), question, ()), Candidates(str(place), passages)))
    return Asked(route, bodies, tasks)


def directly(rag: Rag, tasks: Sequence[Task], sizes: argparse.Namespace) -> None:
    """What the server computes for these requests, without the server."""
    if sizes.route == CHAT:
        rag.predict(tasks)
    else:
        tournament.order(rag.selector, tasks, samples=sizes.samples, seed=0, max_tokens=rag.max_tokens)


class Load:
    """The server, with locust in front of it. `expected`: what each body got when it was asked alone."""

    def __init__(self, server: Server, asked: Asked, folder: Path) -> None:
        self._server = server
        self._asked = asked
        self._folder = folder
        self._process = psutil.Process(server.pid)
        self.expected = [self._post(body) for body in asked.bodies]

    def _post(self, body: dict[str, Any]) -> list[Any]:
        response = httpx.post(f"{self._server.address}{self._asked.route}", json=body, timeout=600)
        return essence(response.raise_for_status().json())

    @property
    def memory(self) -> float:
        """MiB of the server, resident."""
        return self._process.memory_info().rss / 2**20

    def run(self, clients: int, requests: int, rate: float | None = None) -> dict[str, float]:
        """Ask. Returns seconds a request (`each`, `cpu`), the median and p95 of what clients saw, and the
        mean time of a `batch`. Raises `AssertionError` for an answer that is missing or not the expected one.
        """
        plan, seen = self._folder / "plan.json", self._folder / "seen.json"
        said = {"route": self._asked.route, "bodies": self._asked.bodies, "expected": self.expected}
        said |= {"requests": requests, "clients": clients, "rate": rate, "seen": str(seen)}
        plan.write_text(json.dumps(said))
        seen.unlink(missing_ok=True)
        words = [sys.executable, "-m", "locust", "-f", "benchmarks/serving_load.py", "--headless"]
        words += ["--host", self._server.address, "-u", str(clients), "-r", str(clients)]
        words += ["--only-summary", "--loglevel", "ERROR"]
        before, cpu = self._meters(), sum(self._process.cpu_times()[:2])
        environment = {**os.environ, "RAGDRO_LOAD": str(plan), "PYTHONPATH": str(Path.cwd())}
        subprocess.run(words, env=environment, check=True, capture_output=True)
        cpu = sum(self._process.cpu_times()[:2]) - cpu
        after = self._meters()
        measured = json.loads(seen.read_text())
        assert not measured["faults"], measured["faults"][0]
        seconds = sorted(measured["seconds"])
        assert len(seconds) == requests, f"{requests - len(seconds)} of {requests} answers are missing"
        batches = [later - earlier for earlier, later in zip(before, after, strict=True)]
        each = sum(seconds) / requests / clients  # all clients are busy all the time
        return {
            "each": each,
            "cpu": cpu / requests,
            "median": statistics.median(seconds),
            "p95": seconds[int(0.95 * len(seconds))],
            "batch": batches[0] / batches[1],
            "requests_per_batch": requests / batches[1],
        }

    def _meters(self) -> tuple[float, float]:
        text = httpx.get(f"{self._server.address}/metrics").text
        names = ("ragdro_batch_seconds_sum", "ragdro_batch_seconds_count")
        sums, counts = (float(text.split(f"\n{name} ")[1].split()[0]) for name in names)
        return sums, counts


def timed(job: Callable[[], object], count: int) -> tuple[float, float]:
    """Wall and processor seconds of one of `count`."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count


def middle(values: Sequence[float]) -> list[float]:
    """Median, least, greatest."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def turn(load: Load, rag: Rag, tasks: Sequence[Task], sizes: argparse.Namespace) -> dict[str, float]:
    """The four measurements, and the ratios among them."""
    alone = tasks[: sizes.alone]

    def one_by_one() -> None:
        for task in alone:
            directly(rag, [task], sizes)

    single = timed(one_by_one, len(alone))
    one = load.run(1, len(alone))
    batch = timed(lambda: directly(rag, tasks, sizes), len(tasks))
    many = load.run(CLIENTS, sizes.requests)
    return {
        "throughput": one["each"] / many["each"],
        "cpu_throughput": one["cpu"] / many["cpu"],
        "ceiling": single[0] / batch[0],
        "cpu_ceiling": single[1] / batch[1],
        "warm": one["each"] / single[0],
        "cpu_warm": one["cpu"] / single[1],
        "p95_over_batch": many["p95"] / many["batch"],
        "requests_per_batch": many["requests_per_batch"],
        "bare_seconds_alone": single[0],
        "bare_seconds_in_batch": batch[0],
        "bare_cpu_seconds_alone": single[1],
        "bare_cpu_seconds_in_batch": batch[1],
    }


def speed(server: Server, rag: Rag, sizes: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All turns: of each ratio its median, least and greatest value."""
    asked = questions(sizes.route, CLIENTS, sizes.documents)
    load = Load(server, asked, folder)
    for task in asked.tasks[:2]:  # the first questions are also decoded separately
        directly(rag, [task], sizes)
    turns = [turn(load, rag, asked.tasks, sizes) for _ in range(sizes.turns)]
    measured: dict[str, Any] = {name: middle([each[name] for each in turns]) for name in turns[0]}
    measured["open_loop"] = [open_loop(load, fraction, sizes.requests) for fraction in sizes.rate]
    return measured


def open_loop(load: Load, fraction: float, requests: int) -> dict[str, float]:
    """What requests wait that come in at a fraction of what clients got that wait for their answers; both are
    measured here, one after the other."""
    warm = load.run(1, min(requests, 8))["each"]
    rate = fraction / load.run(CLIENTS, requests)["each"]
    waited = load.run(requests, requests, rate)
    measured = {"fraction": fraction, "rate": rate, "median": waited["median"], "p95": waited["p95"]}
    measured |= {f"{name}_over_warm": waited[name] / warm for name in ("median", "p95")}
    measured["requests_per_batch"] = waited["requests_per_batch"]
    return {name: round(value, 3) for name, value in measured.items()}


def memory(server: Server, requests: int, folder: Path) -> dict[str, Any]:
    """Resident memory, MiB, after a tenth of the requests and after all of them."""
    load = Load(server, questions(CHAT, 8, 3), folder)
    tenth = requests // 10
    load.run(CLIENTS, tenth)
    first = load.memory
    load.run(CLIENTS, requests - tenth)
    return {
        "requests": requests,
        "mib_after_a_tenth": round(first, 1),
        "mib_after_all": round(load.memory, 1),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--model", type=Path, help="a model's folder, for both roles; default: the demo's")
    parser.add_argument("--route", choices=(CHAT, RERANK), default=CHAT)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--alone", type=int, default=32, help="questions asked one by one in a turn")
    parser.add_argument("--requests", type=int, default=128, help="of 32 clients in a turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument(
        "--rate", type=float, nargs="*", default=[], help="also at these fractions of 32 clients' throughput"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the server's models and of the bare ones")
    parser.add_argument("--memory", type=int, help="only this: resident memory over so many requests")
    sizes = parser.parse_args()
    if sizes.size == "tiny":
        sizes.documents, sizes.alone, sizes.requests, sizes.turns, sizes.samples = 3, 2, 33, 1, 8
        sizes.rate = [1.5]
    return sizes


def main() -> None:
    sizes = parse()
    torch.set_num_threads(sizes.threads)
    with tempfile.TemporaryDirectory() as made:
        folder = exported_folder(Path(made) / "pair", model=sizes.model)
        options = ("--samples", str(sizes.samples), "--timeout", "600")
        server = Server(folder, *options, env={"OMP_NUM_THREADS": str(sizes.threads)})
        try:
            server.wait()
            if sizes.memory is None:
                measured = speed(server, ragdro.load(folder), sizes, Path(made))
            else:
                measured = memory(server, sizes.memory, Path(made))
        finally:
            server.stop()
    name = "demo" if sizes.model is None else sizes.model.name
    said = {"benchmark": "serving", "pair": name, "route": sizes.route, "threads": sizes.threads, **measured}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
