"""A running server with little room under more requests than it takes: who waits, who is sent away."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serving import ROOT, Server, exported_folder

DOCUMENTS = [f"Name{i} sings at Sivel and shows a mule upon its painting" for i in range(200)]
SLOW = {"query": "What animal is on the painting of Risor?", "documents": DOCUMENTS}
"""A tournament of many rounds with 64 lists each: a second or more."""


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    found = Server(folder, "--queue", "2", "--batch", "1", "--timeout", "240")
    try:
        found.wait()
        ask(found)  # the first questions are also decoded separately
        yield found
    finally:
        found.stop()


def ask(server: Server, timeout: float = 240) -> httpx.Response:
    return httpx.post(f"{server.address}/v1/rerank", json=SLOW, timeout=timeout)


def waiting(server: Server) -> float:
    text = httpx.get(f"{server.address}/metrics", timeout=60).text
    return float(text.split("\nragdro_waiting ")[1].split()[0])


def until_waiting(server: Server, count: int) -> None:
    for _ in range(600):
        if waiting(server) == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{waiting(server)} wait, not {count}")


def test_a_full_queue_sends_away_and_a_client_that_leaves_makes_room(server: Server) -> None:
    with ThreadPoolExecutor(8) as clients:
        under_way = clients.submit(ask, server)
        time.sleep(0.2)
        leaving, staying = clients.submit(ask, server, 0.5), clients.submit(ask, server)
        until_waiting(server, 2)
        refused = ask(server)
        assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "rate_limit_error"
        with pytest.raises(httpx.ReadTimeout):
            leaving.result()
        until_waiting(server, 1)
        assert ask(server).status_code == 200
        assert {under_way.result().status_code, staying.result().status_code} == {200}
    assert 'status="499"' in httpx.get(f"{server.address}/metrics").text


def test_sigterm_answers_those_who_wait_and_takes_no_more(server: Server) -> None:
    """The last one with this server: it has left behind it."""
    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, server)]
        time.sleep(0.2)
        asked += [clients.submit(ask, server) for _ in range(2)]
        until_waiting(server, 2)
        assert not any(one.done() for one in asked)
        server.stop()
        assert [one.result().status_code for one in asked] == [200] * 3
    with pytest.raises(httpx.ConnectError):
        ask(server)


def test_an_answer_that_is_late(folder: Path) -> None:
    server = Server(folder, "--timeout", "0.1", "--batch", "1")
    try:
        server.wait()
        late = ask(server)
        assert late.status_code == 504 and late.json()["message"] == "no answer within 0.1 s"
        assert httpx.get(f"{server.address}/readyz").status_code == 200
    finally:
        server.stop()


def test_several_workers_are_refused_with_the_reason(folder: Path) -> None:
    words = [sys.executable, "-m", "ragdro", "serve", str(folder), "--workers", "4"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode > 0 and "Traceback" not in done.stderr
    assert "one copy of the models" in " ".join(done.stderr.split())
