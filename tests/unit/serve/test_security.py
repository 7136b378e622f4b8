"""Who may ask: loopback, keys, hosts, origins, sizes; what the log and the answers say."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message
from typer.testing import CliRunner

from ragdro.cli import app as command_line
from ragdro.errors import ConfigError
from ragdro.serve.app import create_app
from ragdro.serve.engine import Engine, OverloadedError
from ragdro.serve.guard import Guard
from ragdro.serve.meters import Meters
from ragdro.serve.run import bind, serve
from ragdro.serve.settings import ServeSettings, is_loopback, refuse_workers, require_key
from ragdro.serve.stages import Served
from tests.worlds import pocket_rag

BODY = {"query": "where does Mara work?", "documents": ["Mara works for Firm", "b", "c"]}


def ask(
    settings: ServeSettings,
    method: str = "POST",
    path: str = "/v1/rerank",
    host: str = "localhost:8000",
    headers: Mapping[str, str] | None = None,
    body: object = None,
    served: Served | None = None,
) -> httpx.Response:
    """One request to an application in this process, its engine running."""

    async def scene() -> httpx.Response:
        app = create_app(pocket_rag(), settings, served)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                named = {"Host": host, **(headers or {})}
                return await client.request(method, path, headers=named, json=body or BODY)

    return asyncio.run(scene())


def test_a_server_that_others_reach_needs_a_key() -> None:
    assert require_key("127.0.0.1", None, no_auth=False) is None
    assert require_key("0.0.0.0", "k", no_auth=False) == "k"
    assert require_key("0.0.0.0", "k", no_auth=True) is None
    for key in (None, "", "a\nb", "é"):
        with pytest.raises(ConfigError, match="RAGDRO_API_KEY"):
            require_key("0.0.0.0", key, no_auth=False)
    assert [is_loopback(h) for h in ("localhost", "127.0.0.9", "::1", "0.0.0.0", "example.org")] == [
        *(True, True, True, False, False)
    ]
    with pytest.raises(ConfigError, match=r"--workers 4: one process.*behind a proxy"):
        refuse_workers(4)
    refused = CliRunner().invoke(
        command_line, ["serve", "nowhere", "--host", "0.0.0.0"], env={"RAGDRO_API_KEY": None}
    )
    assert isinstance(refused.exception, ConfigError) and "--no-auth" in str(refused.exception)


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic secret", "Bearer secre", "secret"])
def test_wrong_keys(given: str) -> None:
    settings = ServeSettings("x", api_key="secret")
    for path in ("/v1/rerank", "/metrics", "/docs", "/nowhere"):
        found = ask(settings, path=path, headers={"Authorization": given})
        assert found.status_code == 401 and found.headers["www-authenticate"] == "Bearer"
    assert ask(settings, "GET", "/healthz").status_code == 200


def test_the_key() -> None:
    found = ask(ServeSettings("x", api_key="secret"), headers={"Authorization": "Bearer secret"})
    assert found.status_code == 200 and len(found.json()["results"]) == 3


def test_a_local_server_answers_to_its_own_name_alone() -> None:
    """A web page whose name is pointed at 127.0.0.1 sends that name."""
    assert ask(ServeSettings("x"), host="evil.example:8000").status_code == 403
    assert [
        ask(ServeSettings("x"), host=h).status_code for h in ("127.0.0.1:1", "[::1]:80", "localhost")
    ] == [200] * 3
    assert ask(ServeSettings("x", host="0.0.0.0"), host="rag.example").status_code == 200


def test_origins() -> None:
    asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in ask(ServeSettings("x"), headers=asks).headers
    open_to = ServeSettings("x", cors=("https://a.example",))
    assert ask(open_to, headers=asks).headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in ask(open_to, headers={"Origin": "https://b.example"}).headers


def test_sizes() -> None:
    assert ask(ServeSettings("x", max_body=100), body={"query": "x" * 100}).status_code == 413
    assert ask(ServeSettings("x", max_documents=2)).status_code == 400


@pytest.mark.parametrize(("parts", "read"), [(5, 5), (100, 17)])
def test_a_body_that_is_too_large_is_read_before_it_is_refused_up_to_a_limit(parts: int, read: int) -> None:
    """A connection that is closed with unread data is reset, and the client never sees why."""
    meters, taken, sent = Meters(), list[int](), list[Any]()
    guard = Guard(create_app(pocket_rag(), ServeSettings("x")), ServeSettings("x", max_body=100), meters,
                  frozenset(), frozenset())  # fmt: skip

    async def receive() -> Message:
        taken.append(len(taken))
        return {"type": "http.request", "body": b"x" * 100, "more_body": len(taken) < parts}

    async def send(message: Message) -> None:
        sent.append((len(taken), message))

    scope = {"type": "http", "method": "POST", "path": "/rerank", "headers": [(b"host", b"localhost")]}
    asyncio.run(guard(scope, receive, send))
    assert sent[0][0] == len(taken) == read and sent[0][1]["status"] == 413


def test_a_request_names_no_model_and_no_path() -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "tiny:base", "os:system"):
        found = ask(ServeSettings("x"), body={**BODY, "model": name, "prompt": name, "retriever": name})
        assert (
            found.status_code == 404
            and found.json()["error"]["message"] == "model: this server has 'x' alone"
        )


def test_the_log_has_no_bodies_and_a_fault_says_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caplog.at_level(logging.INFO, "ragdro.serve"):
        ask(ServeSettings("x"), path="/v1/rerank?secret=1")
    (line,) = [r.getMessage() for r in caplog.records if r.name == "ragdro.serve"]
    assert line.startswith("POST /v1/rerank 200 ") and "Mara" not in line and "secret" not in line

    def crash(*arguments: object) -> None:
        raise ZeroDivisionError("an inner secret")

    monkeypatch.setattr("ragdro.serve.engine.work", crash)
    found = ask(ServeSettings("x"))
    assert found.status_code == 500 and "secret" not in found.text


def test_a_client_that_leaves_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr("ragdro.serve.engine.work", lambda rags, jobs, samples: gate.wait(10) and jobs)
    messages: list[Any] = [
        {"type": "http.request", "body": json.dumps(BODY).encode(), "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": headers, "query_string": b""}

    async def receive() -> Any:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    async def scene() -> None:
        app = create_app(pocket_rag(), ServeSettings("x"))
        async with app.router.lifespan_context(app):
            await asyncio.wait_for(app(scope, receive, send), 5)
            gate.set()

    asyncio.run(scene())
    assert sent[0]["status"] == 499


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ragdro.serve.guard._BODY_SECONDS", 0.05)
    first, sent = [{"type": "http.request", "body": b"{", "more_body": True}], list[Any]()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/rerank", "headers": headers, "query_string": b""}

    async def receive() -> Any:
        return first.pop() if first else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def scene() -> None:
        await asyncio.wait_for(create_app(pocket_rag(), ServeSettings("x"))(scope, receive, send), 5)

    asyncio.run(scene())
    assert sent[0]["status"] == 408


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(given: bytes, key: bytes) -> bool:
        compared.append((given, key))
        return given == key

    monkeypatch.setattr("ragdro.serve.guard.hmac.compare_digest", compare)
    assert ask(ServeSettings("x", api_key="secret"), headers={"Authorization": "Bearer s"}).status_code == 401
    assert compared == [(b"s", b"secret")]


def test_a_full_server_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(self: Engine, job: object) -> None:
        raise OverloadedError(7)

    monkeypatch.setattr(Engine, "ask", full)
    found = ask(ServeSettings("x"))
    assert found.status_code == 429 and found.headers["retry-after"] == "7"
    assert found.json()["error"]["type"] == "rate_limit_error"


def test_an_address_that_is_taken_is_one_line_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: another server listens there"):
            serve(Path("no-such-run"), ServeSettings(name="x", port=port))
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.1 --port 0"):
        bind("192.0.2.1", 0)
    with bind("127.0.0.1", 0) as found, pytest.raises(ConnectionRefusedError):
        socket.create_connection(found.getsockname())


def test_the_second_part_of_an_answer_does_not_wait_for_the_client_to_confirm_the_first() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
