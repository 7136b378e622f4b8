"""A running server with little room under more requests than it takes: who waits, who is sent away.

Its models wait until the test lets them go, so that nothing here depends on how fast they are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving import ROOT, Server, exported_folder

ASKED = {"query": "What animal is on the painting of Risor?", "documents": ["a mule", "a lobster"]}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("served") / "tiny")


class HeldServer(Server):
    """Works on no batch before `go`."""

    def __init__(self, folder: Path, gate: Path, *options: str) -> None:
        super().__init__(folder, *options, program=[str(Path(__file__).parent / "held_server.py"), str(gate)])
        self._gate = gate

    def begun(self) -> int:
        """How many batches wait to be computed, or were computed."""
        return len(list(self._gate.glob("begun-*")))

    def waiting(self) -> float:
        """How many requests wait for the models."""
        text = httpx.get(f"{self.address}/metrics", timeout=60).text
        return float(text.split("\nragdro_waiting ")[1].split()[0])

    def go(self) -> None:
        """From now on there is no waiting."""
        (self._gate / "go").touch()

    def stop(self) -> None:
        self.go()
        super().stop()


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[HeldServer]:
    held = HeldServer(folder, tmp_path, "--queue", "2", "--batch", "1", "--timeout", "240")
    try:
        held.wait()
        yield held
    finally:
        held.stop()


def ask(server: Server, timeout: float = 240) -> httpx.Response:
    return httpx.post(f"{server.address}/v1/rerank", json=ASKED, timeout=timeout)


def until(value: Callable[[], float], expected: float) -> None:
    for _ in range(3000):
        if value() == expected:
            return
        time.sleep(0.02)
    raise AssertionError(f"{value()}, not {expected}")


def test_a_full_queue_sends_away_and_a_client_that_leaves_makes_room(server: HeldServer) -> None:
    with ThreadPoolExecutor(8) as clients:
        under_way = clients.submit(ask, server)
        until(server.begun, 1)
        staying = clients.submit(ask, server)
        until(server.waiting, 1)
        leaving = clients.submit(ask, server, 5)
        until(server.waiting, 2)
        refused = ask(server)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(httpx.ReadTimeout):
            leaving.result()
        until(server.waiting, 1)
        late = clients.submit(ask, server)
        until(server.waiting, 2)
        server.go()
        assert [one.result().status_code for one in (under_way, staying, late)] == [200] * 3
    assert server.begun() == 3
    assert 'status="499"' in httpx.get(f"{server.address}/metrics").text


def test_sigterm_answers_those_who_wait_and_takes_no_more(server: HeldServer) -> None:
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, server)]
        until(server.begun, 1)
        asked += [clients.submit(ask, server) for _ in range(2)]
        until(server.waiting, 2)
        os.kill(server.pid, signal.SIGTERM)
        until(lambda: is_listening(server), False)
        assert not any(one.done() for one in asked)
        server.go()
        assert [one.result().status_code for one in asked] == [200] * 3


def is_listening(server: Server) -> bool:
    try:
        httpx.get(f"{server.address}/healthz", timeout=60)
    except httpx.ConnectError:
        return False
    return True


def test_an_answer_that_is_late(folder: Path, tmp_path: Path) -> None:
    server = HeldServer(folder, tmp_path, "--timeout", "0.1", "--batch", "1")
    try:
        server.wait()
        late = ask(server)
        assert late.status_code == 504 and late.json()["message"].startswith("no answer within 0.1 s; ")
        assert httpx.get(f"{server.address}/readyz").status_code == 200
    finally:
        server.stop()


def test_several_workers_are_refused_with_the_reason(folder: Path) -> None:
    words = [sys.executable, "-m", "ragdro", "serve", str(folder), "--workers", "4"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode > 0 and "Traceback" not in done.stderr
    assert "one copy of the models" in " ".join(done.stderr.split())
