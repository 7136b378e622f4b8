"""vLLM itself, on a CPU: it draws what the selector draws, for one process and for two, however long.

RAGDRO_VLLM is the path of a `vllm` command; `make soak` runs what asks its server. What has vLLM in the
process itself needs an environment with both, and is run in it: `python -m pytest -m soak` of this file.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import ragdro
from ragdro.algorithms import Dro
from ragdro.config import Config
from ragdro.json_http import JsonClient
from ragdro.lm.engines import http, open_engine
from ragdro.lm.engines.base import Engine
from ragdro.runs.checkpointer import E_STEP
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.runs.vllm_server import VllmServer
from ragdro.system import Rag
from ragdro.training.proposals import proposals
from ragdro.types import Task
from tests.conftest import byte_level, random_model
from tests.pipeline.test_processes import close
from tests.pipeline.test_train import jsonl, write_config
from tests.pipeline.test_vllm_server import LORA, runs

SERVER = pytest.mark.skipif("RAGDRO_VLLM" not in os.environ, reason="RAGDRO_VLLM names no vllm command")
IN_PROCESS = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not in this environment")
EAGER = "e_step.engine={kind: vllm, arguments: {enforce_eager: true}}"
pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
QUESTIONS, SAMPLES, SHARD = 32, 8, 4
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


@pytest.fixture(autouse=True)
def _cache_of_one_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


def served(*arguments: str) -> str:
    command, listed = os.environ["RAGDRO_VLLM"], ", ".join(["--enforce-eager", *arguments])
    return f"e_step.engine={{kind: vllm-server, command: {command}, arguments: [{listed}]}}"


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


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "JsonClient", Counted)


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


@SERVER
@pytest.mark.parametrize("adapter", [None, LORA])
def test_the_embedded_base_is_served_with_new_weights_each_time(adapter: str | None, tmp_path: Path) -> None:
    overrides = [f"cache={tmp_path}", served(), *([] if adapter is None else [adapter])]
    config = ragdro.load_config(Path(__file__).parents[2] / "configs/tiny.yaml", overrides)
    rag, tasks = build_rag(config), load_tasks(config, "tiny:train")[:64]
    started, updates = VllmServer(config), Updates(rag, tasks[0], 0.002 if adapter is None else 0.02)
    try:
        for turn in range(3):
            print(f"{adapter or 'whole'}: {drawn(config, started, rag, tasks, turn)}", flush=True)
            updates.step()
    finally:
        started.close()


@SERVER
@pytest.mark.parametrize("adapter", [None, LORA])
def test_the_servers_memory_does_not_grow_over_thirty_e_steps(
    adapter: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE")  # a cache of 16 MiB is used up after a few E-steps
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")  # 1,024 products, one a batch's size, else
    engine = served("--kv-cache-memory-bytes", "'16777216'")
    config = ragdro.load_config(small_world(tmp_path), [engine, *([] if adapter is None else [adapter])])
    rag, tasks = build_rag(config), load_tasks(config, config.data.train)[:16]
    started, updates = VllmServer(config), Updates(rag, tasks[0], 0.002 if adapter is None else 0.02)
    sizes: list[float] = []
    pids: set[int] = set()
    try:
        for turn in range(30):
            said = drawn(config, started, rag, tasks, turn)
            there = vllm_below(os.getpid())
            pids |= set(there)
            sizes.append(sum(map(resident, there)))
            print(f"{adapter or 'whole'} {turn}: {said}; server {sizes[-1]:.0f} MiB", flush=True)
            updates.step()
    finally:
        started.close()
    assert max(sizes[10:]) < sizes[9] + 60  # 3 MiB an E-step; what malloc keeps comes and goes
    gone(sorted(pids))
    assert [p.name for p in (tmp_path / "cache/engines/run").iterdir()] == ["server.log"]


@IN_PROCESS
@pytest.mark.parametrize("tied", [False, True])
def test_vllm_in_the_process_draws_what_the_selector_draws(tied: bool, tmp_path: Path) -> None:
    if tied:
        path, overrides = Path(__file__).parents[2] / "configs/tiny.yaml", [f"cache={tmp_path}", EAGER]
    else:
        path, overrides = small_world(tmp_path), [EAGER]
    config = ragdro.load_config(path, overrides)
    rag, tasks = build_rag(config), load_tasks(config, config.data.train)[:16]
    started, updates = open_engine(config.e_step.engine, tmp_path / "weights"), Updates(rag, tasks[0], 0.002)
    try:
        for turn in range(3):
            print(f"{'tied' if tied else 'untied'}: {drawn(config, started, rag, tasks, turn)}", flush=True)
            updates.step()
            there = vllm_below(os.getpid())
            time.sleep(3)  # vLLM looks for further work for a while
            before = sum(map(busy, there))
            time.sleep(5)  # it cannot sleep on a CPU, and takes no time of it either
            idle = sum(map(busy, there)) - before
            print(f"idle: {idle:.2f} s of 5; {sum(map(resident, there)):.0f} MiB", flush=True)
            assert idle < 0.5
    finally:
        started.close()
    assert there
    gone(there)


@IN_PROCESS
def test_a_run_with_vllm_in_the_process_leaves_none_however_it_ends(
    tmp_path: Path, trainings: ExitStack
) -> None:
    path = small_world(tmp_path)

    def start(run: str, *overrides: str) -> Training:
        one = Training(tmp_path, path, run, 0, *overrides)
        trainings.callback(one.end)
        return one

    own = start("own")
    assert own.wait() == 0, own.said
    for number in (signal.SIGKILL, signal.SIGTERM):
        one = start("ended", EAGER, *(["--resume"] if number == signal.SIGTERM else []))
        one.until(f"*-shard-{1 if number == signal.SIGKILL else 3}.json")
        servers = one.servers
        assert servers
        one.process.send_signal(number)
        assert one.wait(300) == (75 if number == signal.SIGTERM else -signal.SIGKILL), one.said
        gone(servers)
    again = start("ended", EAGER, "--resume")
    assert again.wait() == 0, again.said
    assert close(lists(again.run), lists(own.run))


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


@pytest.fixture
def trainings() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@SERVER
@pytest.mark.parametrize("adapter", [None, LORA])
def test_two_ranks_ask_one_server_and_draw_what_one_draws_itself(
    adapter: str | None, tmp_path: Path, trainings: ExitStack
) -> None:
    path, more = small_world(tmp_path), [] if adapter is None else [adapter]
    started = {}
    for run, world_size, engine in (("own", 1, []), ("one", 1, [served()]), ("two", 2, [served()])):
        started[run] = Training(tmp_path, path, run, world_size, *engine, *more)
        trainings.callback(started[run].end)
        assert started[run].wait() == 0, started[run].said
        rates = re.findall(r"vllm serve: \d+ requests for .* a second", started[run].said)
        print(f"{adapter or 'whole'}, {run}: {'; '.join(rates)}", flush=True)
        assert len(rates) == (2 if engine else 0)
    for run in ("one", "two"):
        assert close(lists(started[run].run), lists(started["own"].run))
        assert "started anew" not in started[run].said
        assert [p.name for p in (tmp_path / f"cache/engines/{run}").iterdir()] == ["server.log"]


@SERVER
def test_ranks_that_are_terminated_while_a_server_samples_leave_none_and_resume(
    tmp_path: Path, trainings: ExitStack
) -> None:
    path = small_world(tmp_path)
    own = Training(tmp_path, path, "own", 1)
    trainings.callback(own.end)
    assert own.wait() == 0, own.said
    one = Training(tmp_path, path, "ended", 2, served())
    trainings.callback(one.end)
    one.until("*-shard-1.json")
    servers = one.servers
    assert len(servers) > 1
    one.process.send_signal(signal.SIGTERM)
    assert one.wait(300) != 0
    gone(servers)
    assert not list(one.run.glob("state/*-shard-7.json"))  # it was in the midst of the first E-step
    again = Training(tmp_path, path, "ended", 2, served(), "--resume")
    trainings.callback(again.end)
    assert again.wait() == 0, again.said
    assert close(lists(one.run), lists(own.run))


@SERVER
def test_a_server_that_is_killed_ends_both_ranks_with_a_line_each(
    tmp_path: Path, trainings: ExitStack
) -> None:
    one = Training(tmp_path, small_world(tmp_path), "killed", 2, served())
    trainings.callback(one.end)
    one.until("*-shard-0.json")
    servers = one.servers
    os.kill(servers[0], signal.SIGKILL)
    assert one.wait(300) != 0
    gone(servers)
    lines = re.findall(r"^ragdro: error.*$", one.said, re.MULTILINE)
    print("\n".join(lines), flush=True)
    assert len(lines) == 2 and sum("vllm serve ended with signal SIGKILL" in line for line in lines) == 1
    assert one.said.count("Traceback") == 1  # torchrun's own


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
