"""The E-step's server, started by the run: against a stand-in process behind which the test's models stand.

`test_vllm_itself.py` asks vLLM; what the server does not take is in `test_vllm_server_settings.py`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import ragdro
from ragdro.errors import TrainingError
from ragdro.lm.engines import process
from ragdro.runs.setup import build_rag
from ragdro.runs.vllm_server import VllmServer
from tests.pipeline.crash import Command, Processes
from tests.pipeline.processes import assert_equal_runs, uneven
from tests.pipeline.test_train import write_config
from tests.pipeline.vllm_stand_in import LORA, QUICK, FakeVllm, runs, served
from tests.unit.retrieval.test_http import Reply


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
