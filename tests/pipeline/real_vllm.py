"""What the tests of vLLM itself share: a small world, draws compared, and processes watched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ragdro.algorithms import Dro
from ragdro.config import Config
from ragdro.json_http import JsonClient
from ragdro.lm.engines.base import Engine
from ragdro.runs.checkpointer import E_STEP
from ragdro.system import Rag
from ragdro.training.proposals import proposals
from ragdro.types import Task
from tests.conftest import byte_level, random_model
from tests.pipeline.test_train import jsonl, write_config
from tests.pipeline.vllm_stand_in import runs

QUESTIONS, SAMPLES, SHARD = 32, 8, 4
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def small_world(folder: Path) -> Path:
    """A config over 32 questions and an untrained model whose head is its own: vLLM on a CPU reads all of it
    again; its heads are as wide as vLLM can compute there."""
    corpus = [
        {"id": f"p{i}", "title": f"Firm {i}", "text": f"Mara{i} works for Firm {i}, in Town{i}."}
        for i in range(40)
    ]
    questions = [
        {"id": f"q{i}", "question": f"Where does Mara{i} work?", "answers": [f"Firm {i}"]} for i in range(40)
    ]
    fit = {"learning_rate": 1e-4, "batch_size": 8}  # gentle: lists are to stay various
    path = write_config(
        folder,
        top_n=8,
        threads=1,
        patience=None,
        warm_up={"selector": None, "generator": None},
        e_step={"samples": SAMPLES, "questions_per_shard": SHARD},
        m_step={"selector": fit, "generator": fit},
    )
    jsonl(folder / "corpus.jsonl", corpus)
    jsonl(folder / "train.jsonl", questions[:QUESTIONS])
    jsonl(folder / "validation.jsonl", questions[QUESTIONS:][:2])
    made = random_model(
        byte_level(), hidden_size=128, intermediate_size=128, head_dim=32, initializer_range=0.1
    )
    made.hf.save_pretrained(folder / "model")
    return path


class Counted(JsonClient):
    """Counts what it sends."""

    bodies: list[Any] = []  # noqa: RUF012

    def send(self, url: str, body: dict[str, Any]) -> Any:
        """See `JsonClient`."""
        self.bodies.append(body)
        return super().send(url, body)


def drawn(config: Config, engine: Engine, rag: Rag, tasks: list[Task], stream: int) -> str:
    """Lists drawn with vLLM are those drawn without, and q is p to 1e-4; what it took."""
    step, asked = config.e_step, time.perf_counter()
    said: list[str] = []
    engine.say = said.append
    with engine.serving(rag.selector.model) as decoder:
        began = time.perf_counter()
        draws = proposals(Dro(), step, 0, stream, decoder)(rag.selector, tasks)
        seconds = time.perf_counter() - began
    own = proposals(Dro(), step, 0, stream)(rag.selector, tasks)
    own_seconds = time.perf_counter() - began - seconds
    apart = 0.0
    for ours, theirs in zip(own, draws, strict=True):
        assert [d.permutation for d in theirs] == [d.permutation for d in ours]
        apart = max(apart, *(abs(a.log_proposal - b.log_proposal) for a, b in zip(ours, theirs, strict=True)))
    assert apart < 1e-4
    return (
        f"new weights in {began - asked:.1f} s; {len(tasks)} questions in {seconds:.1f} s (own:"
        f" {own_seconds:.1f}); {said[-1]}; log q to {apart:.1g}"
    )


class Updates:
    """M-steps of a selector: each time other weights, all as far from the first ones."""

    def __init__(self, rag: Rag, task: Task, size: float) -> None:
        self._rag, self._task, self._size, self._steps = rag, task, size, 0
        self._trained = [p for p in rag.selector.model.hf.parameters() if p.requires_grad]
        self._first = [p.detach().clone() for p in self._trained]

    def step(self) -> None:
        """An old weight would be seen."""
        before = self._log_probs()
        self._steps += 1
        random = torch.Generator().manual_seed(self._steps)
        with torch.no_grad():
            for p, first in zip(self._trained, self._first, strict=True):
                p.copy_(first + self._size * torch.randn(p.shape, generator=random))
        assert (self._log_probs() - before).abs().max() > 0.01

    def _log_probs(self) -> torch.Tensor:
        lists = [tuple(range(i, i + self._rag.selector.k)) for i in range(3)]
        return torch.tensor(self._rag.selector.log_prob(self._task, lists, 4096))


class Training:
    """`torchrun`'s processes of one run (0: one without it); what they say goes to a file."""

    def __init__(self, folder: Path, config: Path, run: str, world_size: int, *overrides: str) -> None:
        self.run, self._said = folder / "runs" / run, folder / f"{run}-said.txt"
        launcher = [*TORCHRUN, str(world_size)] if world_size else [sys.executable]
        command = [*launcher, "-m", "ragdro", "train", str(config), f"name={run}", *overrides]
        with self._said.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    @property
    def said(self) -> str:
        return self._said.read_text()

    def wait(self, seconds: float = 1800) -> int:
        return self.process.wait(seconds)

    def until(self, pattern: str) -> None:
        """Until there is such a file in the run's state."""
        deadline = time.monotonic() + 1200
        while not list(self.run.glob(f"state/{pattern}")):
            assert self.process.poll() is None and time.monotonic() < deadline, self.said
            time.sleep(0.02)

    @property
    def servers(self) -> list[int]:
        """The processes of vLLM; that which was started first is the server itself."""
        return vllm_below(self.process.pid)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)


def lists(run: Path) -> dict[str, Any]:
    """What each E-step drew of each question, with its log-probabilities and weights."""
    index = [json.loads(line) for line in (run / "state/files.jsonl").read_text().splitlines()]
    shards = {key: file[0] for key, *file in index if key.startswith(E_STEP)}
    assert len(shards) == 2 * QUESTIONS // SHARD
    drawn = {key: json.loads((run / "state" / file).read_text()) for key, file in shards.items()}
    distinct = sum(len(question["samples"]) for shard in drawn.values() for question in shard)
    assert distinct > 2 * QUESTIONS * SAMPLES / 2  # else nothing much was asked
    return drawn


def vllm_below(pid: int) -> list[int]:
    """The processes of vLLM that a process has started, or that what it started has; the oldest first."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        for child in sorted(children.get(queue.pop(0), [])):
            found.append(child)
            queue.append(child)
    return [child for child in sorted(found) if re.match(r"VLLM::|\S*python\S* \S*vllm serve ", name(child))]


def name(pid: int) -> str:
    """What it was started with, or what it calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def gone(pids: list[int]) -> None:
    """None of them is there any more, in a while."""
    deadline = time.monotonic() + 30
    while any(map(runs, pids)):
        assert time.monotonic() < deadline, [name(pid) for pid in pids]
        time.sleep(0.1)


def busy(pid: int) -> float:
    """Seconds of processor time that it has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MiB of memory that it holds."""
    try:
        resident = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return 0.0 if resident is None else int(resident[1]) / 1024
