"""The server of vLLM itself, on a CPU: it draws what the selector draws, for one process and for two, however
long.

RAGDRO_VLLM is the path of a `vllm` command, with which `make soak` runs this. `test_vllm_in_process.py` has
vLLM in the process itself.
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

import ragdro
from ragdro.runs.setup import build_rag, load_tasks
from ragdro.runs.vllm_server import VllmServer
from tests.pipeline.processes import close
from tests.pipeline.real_vllm import Training, Updates, drawn, gone, lists, resident, small_world, vllm_below
from tests.pipeline.vllm_stand_in import LORA

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("real_vllm"),
    pytest.mark.skipif("RAGDRO_VLLM" not in os.environ, reason="RAGDRO_VLLM names no vllm command"),
]


def served(*arguments: str) -> str:
    command, listed = os.environ["RAGDRO_VLLM"], ", ".join(["--enforce-eager", *arguments])
    return f"e_step.engine={{kind: vllm-server, command: {command}, arguments: [{listed}]}}"


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
