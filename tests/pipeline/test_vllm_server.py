"""The E-step's server, started by the run: against a stand-in process behind which the test's models stand.

`test_vllm_itself.py` asks vLLM.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import ragdro
from ragdro.config import Config
from ragdro.errors import ConfigError, TrainingError
from ragdro.lm.engines import gpus as gpus_module
from ragdro.lm.engines import process
from ragdro.lm.engines.gpus import taken_gpus
from ragdro.runs import vllm_server as module
from ragdro.runs.setup import build_rag
from ragdro.runs.vllm_server import VllmServer
from tests.pipeline.crash import Command, Processes
from tests.pipeline.test_processes import assert_equal_runs, uneven
from tests.pipeline.test_train import write_config
from tests.unit.lm.test_engines import completions
from tests.unit.retrieval.test_http import Reply, StandIn, server  # noqa: F401

LORA = "selector.adapter={kind: lora, rank: 4}"
QUICK = ["warm_up.selector=null", "warm_up.generator=null", "iterations=1"]


class FakeVllm:
    """What the stand-in's process is answered: how it behaves, and what the models that it was given say."""

    def __init__(self, backend: StandIn, folder: Path) -> None:
        self.backend = backend
        self.behaviour: dict[str, Any] = {}
        self.first: Callable[[], None] = lambda: None
        """Called when draws ask for the first time."""
        self.compared = False
        self.started: list[SimpleNamespace] = []
        self.worker = 0
        self.requested: list[str] = []
        self.names = {"selector"}
        self.hf: Any = None
        self.command = folder / "vllm"
        script = Path(__file__).parents[1] / "fake_vllm.py"
        self.command.write_text(f'#!/bin/sh\nBACKEND={backend.url} exec {sys.executable} {script} "$@"\n')
        self.command.chmod(0o755)
        backend.answer = self.answer

    @property
    def engine(self) -> str:
        return f"e_step.engine={{kind: vllm-server, command: {self.command}, backoff_seconds: 0.01}}"

    def answer(self, path: str, body: Any) -> Reply:
        """One request's reply."""
        if path == "/start":
            self.started.append(SimpleNamespace(**body))
            self.hf = AutoModelForCausalLM.from_pretrained(body["arguments"][1])
            return 200, {}, self.behaviour
        if path == "/worker":
            self.worker = body["pid"]
            return 200, {}, {}
        if path == "/v1/completions":
            return self._completions(body)
        self.requested.append(path)
        if path == "/collective_rpc":
            assert body == {"method": "reload_weights"}
            if self.behaviour.get("stale"):
                return 200, {}, {"results": [None]}
            self.hf = AutoModelForCausalLM.from_pretrained(self.started[-1].arguments[1])
        elif path == "/v1/load_lora_adapter":
            self.hf.load_adapter(body["lora_path"], adapter_name=body["lora_name"])
            self.hf.set_adapter(body["lora_name"])
            self.names.add(body["lora_name"])
        elif path == "/v1/unload_lora_adapter":
            self.hf.delete_adapter(body["lora_name"])
            self.names.remove(body["lora_name"])
        return 200, {}, {"success": True}

    def _completions(self, body: Any) -> Reply:
        assert body["model"] in self.names
        if self.compared:
            first, self.first = self.first, lambda: None
            first()
        self.compared = True
        reply: Reply = completions(self.hf)("/v1/completions", {**body, "model": "selector"})
        return reply

    def assert_gone(self) -> None:
        """Nothing of what was started is there any more."""
        assert self.started
        for pid in filter(None, [self.worker, *(one.pid for one in self.started)]):
            deadline = time.monotonic() + 10
            while runs(pid):
                assert time.monotonic() < deadline, pid
                time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether it is there, and no corpse that its parent has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def vllm(server: StandIn, tmp_path: Path) -> FakeVllm:  # noqa: F811
    return FakeVllm(server, tmp_path)


def served(folder: Path, vllm: FakeVllm, *overrides: str) -> Config:
    return ragdro.load_config(write_config(folder), [vllm.engine, *overrides])


@pytest.fixture
def engine(vllm: FakeVllm, tmp_path: Path) -> Iterator[VllmServer]:
    one = VllmServer(served(tmp_path, vllm))
    yield one
    one.close()


@pytest.mark.parametrize("adapter", [None, pytest.param(LORA, marks=pytest.mark.slow)])
def test_a_run_whose_server_samples_is_the_run_that_samples_itself(
    adapter: str | None, vllm: FakeVllm, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["checkpoints.keep=all", *([] if adapter is None else [adapter])]
    ragdro.run(served(tmp_path, vllm, "name=served", *more))
    vllm.assert_gone()
    log = tmp_path / "cache/engines/served/server.log"
    shown = capsys.readouterr().err
    assert f"vllm serve is being started; its log is {log}" in shown
    assert len(re.findall(r"vllm serve: \d+ requests for \d+ beginnings in [\d.]+ s", shown)) == 2
    ragdro.run(ragdro.load_config(tmp_path / "config.yaml", ["name=own", *more]))
    assert_equal_runs(tmp_path / "runs/served", tmp_path / "runs/own", pairs=3)
    (start,) = vllm.started  # one server for both E-steps, and the second has new weights
    if adapter is None:
        assert vllm.requested == ["/collective_rpc", "/reset_prefix_cache"]
    else:
        assert vllm.requested == [f"/v1/{verb}_lora_adapter" for verb in ("load", "unload", "load")]
        assert vllm.names == {"selector", "selector-2"}
        assert start.arguments[1] == str(tmp_path / "model")
        assert start.arguments[start.arguments.index("--max-lora-rank") + 1] == "8"
    keys = {headers["Key"] for path, headers, _ in vllm.backend.requests if path not in ("/start", "/worker")}
    assert keys == {f"Bearer {start.environment['VLLM_API_KEY']}"}
    assert start.arguments[start.arguments.index("--host") + 1] == "127.0.0.1"
    assert start.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert [p.name for p in (tmp_path / "cache/engines/served").iterdir()] == ["server.log"]


@pytest.mark.slow
def test_both_processes_of_a_run_ask_one_server(vllm: FakeVllm, tmp_path: Path) -> None:
    config = uneven(tmp_path)
    running = Processes(tmp_path, "train", str(config), "name=two", vllm.engine)
    assert running.wait() == [0, 0], running.said
    ragdro.run(ragdro.load_config(config, ["name=own"]))
    assert_equal_runs(tmp_path / "runs/two", tmp_path / "runs/own")
    (start,) = vllm.started
    assert not {"RANK", "WORLD_SIZE", "MASTER_PORT"} & set(start.environment)
    vllm.assert_gone()


def test_a_server_that_does_not_start_is_one_line_with_the_end_of_its_log(
    vllm: FakeVllm, engine: VllmServer, tmp_path: Path
) -> None:
    model = build_rag(ragdro.load_config(tmp_path / "config.yaml")).selector.model
    vllm.behaviour = {
        "exit": 3,
        "prints": "INFO 11-26 14:01:10 [core.py:1] loading\nTraceback (most recent call last):\n"
        "(Worker pid=17) ERROR 11-26 14:01:10 [core.py:1063]     raise ValueError(\n"
        "(Worker pid=17) ERROR 11-26 14:01:10 [core.py:1063] ValueError: No common block size for 16.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.",
    }
    log = tmp_path / "cache/engines/run/server.log"
    expected = (
        "e_step.engine: vllm serve ended with exit code 3 before it was ready:"
        f" ValueError: No common block size for 16.; the rest is in {log}"
    )
    with pytest.raises(TrainingError) as failed, engine.serving(model):
        pass
    assert str(failed.value) == expected
    vllm.assert_gone()


def test_a_server_that_is_too_slow_is_stopped_whatever_it_does(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PATIENCE", 0.2)
    config = served(tmp_path, vllm, "e_step.engine.start_seconds=1", *QUICK)
    vllm.behaviour = {"mute": True, "deaf": True, "prints": "loading"}
    with pytest.raises(TrainingError, match=r"vllm serve was not ready after 1 second: loading; the rest"):
        ragdro.run(config)
    assert vllm.worker
    vllm.assert_gone()


def test_a_server_that_dies_ends_the_run_in_one_line(vllm: FakeVllm, tmp_path: Path) -> None:
    vllm.behaviour = {"prints": "torch.OutOfMemoryError: CUDA out of memory."}
    vllm.first = lambda: os.kill(vllm.started[0].pid, signal.SIGKILL)
    with pytest.raises(TrainingError) as failed:
        ragdro.run(served(tmp_path, vllm, *QUICK))
    assert str(failed.value).startswith(
        "e_step.engine: vllm serve ended with signal SIGKILL: torch.OutOfMemoryError: CUDA out of memory.;"
    )
    vllm.assert_gone()


@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_stops_the_server_with_the_run(
    number: int, ends: type[BaseException], vllm: FakeVllm, tmp_path: Path
) -> None:
    vllm.first = lambda: os.kill(os.getpid(), number)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(ends):
            ragdro.run(served(tmp_path, vllm, *QUICK))
    finally:
        signal.signal(signal.SIGINT, before)
    vllm.assert_gone()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent was killed")
def test_a_run_that_is_killed_leaves_no_server(vllm: FakeVllm, tmp_path: Path) -> None:
    config = write_config(tmp_path)
    vllm.first = lambda: os.kill(running.process.pid or 0, signal.SIGKILL)
    running = Command(tmp_path, "train", str(config), vllm.engine, *QUICK)
    assert running.wait() == -signal.SIGKILL, running.said
    vllm.assert_gone()


KILLED_BESIDE = """
import os, signal, subprocess
from ragdro.lm.engines.process import Survivors

children = [subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(3)]
print(*[one.pid for one in children], flush=True)
Survivors([children[0].pid]).release()
Survivors([one.pid for one in children[1:]])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_library_started_ends_where_the_run_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BESIDE], stdout=subprocess.PIPE, text=True, timeout=60
    )
    released, *others = map(int, done.stdout.split())
    try:
        deadline = time.monotonic() + 10
        while any(map(runs, others)):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert done.returncode == -signal.SIGKILL and runs(released)
    finally:
        os.kill(released, signal.SIGKILL)


def test_a_server_that_keeps_what_it_computed_with_earlier_weights_is_refused(
    vllm: FakeVllm, engine: VllmServer, tmp_path: Path
) -> None:
    model = build_rag(ragdro.load_config(tmp_path / "config.yaml")).selector.model
    with engine.serving(model):
        pass
    right = vllm.answer
    vllm.backend.answer = lambda path, body: (
        (200, {}, {"success": False}) if path == "/reset_prefix_cache" else right(path, body)
    )
    with (
        pytest.raises(TrainingError, match="keeps what it computed with earlier weights"),
        engine.serving(model),
    ):
        pass


def test_a_server_that_new_weights_do_not_reach_is_started_anew(
    vllm: FakeVllm, engine: VllmServer, tmp_path: Path
) -> None:
    model = build_rag(ragdro.load_config(tmp_path / "config.yaml")).selector.model
    head = model.hf.get_output_embeddings().weight
    vllm.behaviour = {"stale": True}
    with engine.serving(model):
        pass
    with torch.no_grad():
        head.add_(0.1 * torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
    with pytest.warns(RuntimeWarning, match="did not reach all of vLLM"), engine.serving(model):
        assert torch.equal(vllm.hf.get_output_embeddings().weight, head)
    with engine.serving(model):
        pass
    assert len(vllm.started) == 3 and vllm.requested == ["/collective_rpc", "/reset_prefix_cache"]
    assert not runs(vllm.started[1].pid)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "e_step.engine={kind: vllm-server, command: no-vllm}",
            r"engine\.command: no command 'no-vllm' here",
        ),
        ("e_step.engine={kind: vllm-server, gpus: [-1]}", r"e_step\.engine\.gpus"),
        ("e_step.engine={kind: vllm-server, gpu: [1]}", r"unknown key 'e_step\.engine\.gpu'"),
    ],
)
def test_what_cannot_be_served_is_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        VllmServer(ragdro.load_config(write_config(tmp_path), [override]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["selector.layers=1", LORA], "selector.layers: e_step.engine vllm-server serves a whole base"),
        (["selector.adapter={kind: lora, rank: 1024}"], "selector.adapter.rank: vLLM takes 512 at most"),
    ],
)
def test_adapters_that_vllm_cannot_serve_are_refused(
    overrides: list[str], message: str, vllm: FakeVllm, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        VllmServer(served(tmp_path, vllm, *overrides))


def test_the_gpus_that_the_run_trains_on_are_not_the_servers(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken_gpus("cpu", {}) == []
    assert taken_gpus("cuda", {}) == ["0"] and taken_gpus("cuda:3", {}) == ["3"]
    four = {"LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "4,6,7"}
    assert taken_gpus("cuda", four) == ["4", "6"]
    monkeypatch.setattr(module, "taken_gpus", lambda device, environment: ["0", "1"])
    for gpus, message in (("[2, 1]", "the run itself trains on 1"), ("[]", "name the GPUs")):
        with pytest.raises(ConfigError, match=f"e_step.engine.gpus: {message}"):
            VllmServer(served(tmp_path, vllm, f"e_step.engine.gpus={gpus}"))
    VllmServer(served(tmp_path, vllm, "e_step.engine.gpus=[2, 3]"))


LISTED = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
  MIG 1g.10gb     Device  0: (UUID: MIG-99999999-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-22223333-aaaa-bbbb-cccc-000000000000)
"""


@pytest.mark.parametrize(
    ("visible", "gpus", "refused"),
    [
        ("GPU-11111111,GPU-2222222", "[0]", "0"),  # CUDA takes the beginning of a UUID
        ("GPU-11111111,GPU-22222222", "[2]", None),
        ("GPU-11111111-aaaa-bbbb-cccc-000000000000,GPU-22222222", "[GPU-22222222-aaaa]", "GPU-22222222-aaaa"),
        ("GPU-11111111,GPU-22222222", "[GPU-22223333]", None),
        ("0, 1", "[GPU-22222222]", "GPU-22222222"),
        ("0,1", "[GPU-22223333]", None),
        ("MIG-99999999-aaaa", "[MIG-99999999]", "MIG-99999999"),
        ("MIG-99999999-aaaa", "[MIG-8]", None),
    ],
)
def test_gpus_by_uuid_and_by_number_are_the_same_ones(
    visible: str,
    gpus: str,
    refused: str | None,
    vllm: FakeVllm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = tmp_path / "bin/nvidia-smi"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\n[ -z "$CUDA_VISIBLE_DEVICES" ] && cat <<END\n{LISTED}END\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(gpus_module, "pick_device", lambda name: torch.device("cuda"))
    config = served(tmp_path, vllm, f"e_step.engine.gpus={gpus}")
    if refused is None:
        VllmServer(config)
        return
    with pytest.raises(ConfigError, match=f"the run itself trains on {refused}; give"):
        VllmServer(config)


def test_uuids_without_nvidia_smi_are_to_be_named_alike(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    monkeypatch.setattr(gpus_module, "pick_device", lambda name: torch.device("cuda"))
    config = served(tmp_path, vllm, "e_step.engine.gpus=[0]")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the run's GPUs are GPU-1 .* name the server's in the same way"):
        VllmServer(config)


def test_a_server_that_computes_another_model_is_refused_as_it_starts(
    vllm: FakeVllm, engine: VllmServer, tmp_path: Path
) -> None:
    model = build_rag(ragdro.load_config(tmp_path / "config.yaml")).selector.model
    right = vllm.answer

    def another(path: str, body: Any) -> Reply:
        said = right(path, body)
        if path == "/start":
            with torch.no_grad():
                vllm.hf.get_output_embeddings().weight.mul_(3)
        return said

    vllm.backend.answer = another
    expected = r"nats from the model's own \(at most 0.02 is rounding\), so it"
    with pytest.raises(TrainingError, match=expected), engine.serving(model):
        pass
    engine.close()
    vllm.assert_gone()
