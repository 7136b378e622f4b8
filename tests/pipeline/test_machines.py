"""Two torchrun agents, as on two machines. One is lost, and the other goes on alone; or both are, and one of
them sees late what the other wrote.

Each is in a network of its own where that is allowed (Linux, root), else both are on this machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pipeline.crash import Command
from tests.pipeline.processes import assert_equal_runs, log, uneven

ROOT = Path(__file__).resolve().parents[2]
LATE = 20.0
"""Seconds until a machine sees what the other wrote: more than a start takes."""


@dataclass(frozen=True)
class Machine:
    """What a command begins with that is to run there, its address and its network's name."""

    inside: Sequence[str]
    address: str
    interface: str


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    one, other = (
        Machine(("ip", "netns", "exec", f"ragdro-{i}"), f"10.77.0.{i}", f"ragdro{i}") for i in (1, 2)
    )
    script = [
        *(f"ip netns add ragdro-{i}" for i in (1, 2)),
        f"ip link add {one.interface} type veth peer name {other.interface}",
        *(f"ip link set ragdro{i} netns ragdro-{i}" for i in (1, 2)),
        *(f"ip -n ragdro-{i} addr add 10.77.0.{i}/24 dev ragdro{i}" for i in (1, 2)),
        *(f"ip -n ragdro-{i} link set {name} up" for i in (1, 2) for name in ("lo", f"ragdro{i}")),
    ]
    apart = shutil.which("ip") and not subprocess.run(["sh", "-ec", "\n".join(script)]).returncode
    yield [one, other] if apart else [Machine((), "127.0.0.1", "lo")] * 2
    if shutil.which("ip"):
        for i in (1, 2):
            subprocess.run(["ip", "netns", "del", f"ragdro-{i}"], stderr=subprocess.DEVNULL)


def agent(
    folder: Path,
    name: str,
    machine: Machine,
    port: int,
    host: Machine | None,
    *,
    nodes: str = "1:2",
    program: Sequence[str] = ("ragdro",),
) -> subprocess.Popen[bytes]:
    """The command of one machine, whose process runs `program`; the `host` (None: this one) has the meeting
    point."""
    point = f"is_host={host is None},last_call_timeout=20"
    command = [
        *(*machine.inside, sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", nodes, "--nproc_per_node", "1", "--rdzv_id", name),
        *("--rdzv_backend", "c10d", "--rdzv_endpoint", f"{(host or machine).address}:{port}"),
        *("--rdzv_conf", point, "--local-addr", machine.address, "--max-restarts", "1"),
        *("-m", *program, "train", str(folder / "config.yaml"), f"name={name}", "--resume"),
    ]
    said = (folder / f"{name}-{'other' if host else 'host'}.txt").open("w")
    networks = {"GLOO_SOCKET_IFNAME": machine.interface, "TP_SOCKET_IFNAME": machine.interface}
    environment = {**os.environ, **networks, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=said, stderr=said)


@pytest.mark.soak
@pytest.mark.parametrize("event", ["shard", "update"])
def test_a_machine_that_is_lost_leaves_the_other_to_finish_alone(
    event: str, tmp_path: Path, machines: list[Machine]
) -> None:
    uneven(tmp_path)
    alone = Command(tmp_path, "train", str(tmp_path / "config.yaml"), "name=alone")
    assert alone.wait() == 0, alone.said
    name, port, (one, other) = f"lost-{event}", free_port(), machines
    host = agent(tmp_path, name, one, port, None)
    lost = agent(tmp_path, name, other, port, one)
    run = tmp_path / "runs" / name
    while not any(r["event"] == event and r["stage"] == "iteration-1" for r in seen(run)):
        assert host.poll() is None, (tmp_path / f"{name}-host.txt").read_text()
        time.sleep(0.02)
    for process in [lost.pid, *children(lost.pid)]:
        os.kill(process, signal.SIGKILL)
    lost.wait()
    assert not (run / "results.json").exists()
    assert host.wait(300) == 0, (tmp_path / f"{name}-host.txt").read_text()
    said = (tmp_path / f"{name}-host.txt").read_text()
    assert said.count("another process of the run has ended") == 1 and "resuming from saved state" in said
    assert_equal_runs(tmp_path / "runs/alone", run)


@pytest.mark.soak
@pytest.mark.parametrize("behind", [0, 1])
def test_a_machine_that_sees_the_shared_folder_late_goes_on_with_the_other(
    behind: int, tmp_path: Path, machines: list[Machine]
) -> None:
    """Both lose their power and begin again at once, before one of them sees the state to resume from. It
    also begins before it sees what the other has tokenised."""
    uneven(tmp_path)
    alone = Command(tmp_path, "train", str(tmp_path / "config.yaml"), "name=alone")
    assert alone.wait() == 0, alone.said
    run, cache = tmp_path / "runs/late", tmp_path / "late-cache"
    late = json.dumps({"folders": [str(run), str(cache)], "seconds": LATE})
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(str(tmp_path / "cache"), str(cache)))

    def begun() -> list[subprocess.Popen[bytes]]:
        port, (one, other) = free_port(), machines
        programs: list[tuple[str, ...]] = [("ragdro",), ("ragdro",)]
        programs[behind] = ("tests.pipeline.faults", late)
        host = agent(tmp_path, "late", one, port, None, nodes="2", program=programs[0])
        return [host, agent(tmp_path, "late", other, port, one, nodes="2", program=programs[1])]

    def said() -> list[str]:
        return [(tmp_path / f"late-{machine}.txt").read_text() for machine in ("host", "other")]

    agents = begun()
    while not any(r["event"] == "update" and r["stage"] == "iteration-1" for r in seen(run)):
        assert all(process.poll() is None for process in agents), said()
        time.sleep(0.02)
    for process in [pid for one in agents for pid in (one.pid, *children(one.pid))]:
        os.kill(process, signal.SIGKILL)
    for one in agents:
        one.wait()
    assert not (run / "results.json").exists()
    assert [one.wait(300) for one in begun()] == [0, 0], said()
    assert "resuming from saved state" in said()[0]
    assert_equal_runs(tmp_path / "runs/alone", run)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def children(process: int) -> list[int]:
    """The processes that this one has started."""
    return [int(c) for f in Path(f"/proc/{process}/task").glob("*/children") for c in f.read_text().split()]


def seen(run: Path) -> list[dict[str, object]]:
    """The log so far; the last line may be half written."""
    try:
        return log(run)
    except (FileNotFoundError, ValueError):
        return []
