"""The running server under a thousand broken bodies, odd ones, broken HTTP, and what schemathesis makes."""

from __future__ import annotations

import errno
import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from transformers import AutoTokenizer

from tests.serving import PASSAGES, QUESTIONS, Server, exported_folder

KEY = {"RAGDRO_API_KEY": "secret"}
HEADERS = {"Authorization": "Bearer secret"}
TURN = {"role": "user", "content": QUESTIONS[0]}
GOOD: dict[str, dict[str, Any]] = {
    "/v2/rerank": {"query": QUESTIONS[0], "documents": PASSAGES},
    "/v1/rerank": {"query": QUESTIONS[0], "documents": PASSAGES},
    "/rerank": {"query": QUESTIONS[0], "texts": PASSAGES},
    "/v1/chat/completions": {"messages": [TURN], "documents": PASSAGES},
    "/v1/answer": {"question": QUESTIONS[0], "documents": PASSAGES, "samples": 0},
}
WRONG_TEXT: tuple[Any, ...] = (3, -1.5, True, [], {}, ["a"], {"a": 1}, "", " \n\t", "\x00", "a\x00b", 1e300)
WRONG_LIST: tuple[Any, ...] = (
    *(3, True, {}, "a", "", [], [[]], [None], [3], ["a", 3], [True], [{}], [{"text": 3}], [{"title": "t"}]),
    *([{"text": "a\x00"}], [{"text": "a", "title": 4}], [{"text": "a", "id": 7}], ["\x00"], ["x"] * 1001),
    {"0": "a"},
)
WRONG_COUNT: tuple[Any, ...] = (-1, 1.5, "3", True, [], {}, [1], "", -(10**30), 1e400, {"a": 1})
WRONG_BOOL: tuple[Any, ...] = (2, -1, 0.5, "yes", "", [], {}, [True])
WRONG_TURNS: tuple[Any, ...] = (
    *([], {}, "hello", 3, [3], [None], [[]], [{}], [{"role": "user"}], [{"content": "x"}], [TURN, TURN, 3]),
    *([{"role": "owner", "content": "x"}], [{"role": "user", "content": 3}], [{**TURN, "content": ""}]),
    *([{**TURN, "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],),
    *([{**TURN, "content": [{"type": "text"}]}], [{**TURN, "content": {"text": "x"}}], [{**TURN, "role": 1}]),
    *([TURN, {"role": "assistant", "content": "x"}], [{"role": "system", "content": "x"}]),
    *([{**TURN, "content": "a\x00"}], [{**TURN, "content": "  "}], [{**TURN, "role": "user\x00"}]),
)
WRONG: dict[str, tuple[Any, ...]] = {
    "query": (None, *WRONG_TEXT),
    "question": (None, *WRONG_TEXT),
    "documents": WRONG_LIST,
    "texts": (*WRONG_LIST[:8], *WRONG_LIST[17:], [{"text": "a"}]),
    "messages": (None, *WRONG_TURNS),
    "model": (3, True, [], {}, "", "gpt-9", "../../etc/passwd", "\x00", "tiny:base", "os:system", ["tiny"]),
    "top_n": (0, *WRONG_COUNT),
    "max_tokens_per_doc": (0, *WRONG_COUNT),
    "samples": (None, 65, 10**30, *WRONG_COUNT),
    "return_documents": WRONG_BOOL,
    "raw_scores": (None, *WRONG_BOOL),
    "return_text": (None, *WRONG_BOOL),
    "stream": WRONG_BOOL,
    "stream_options": (3, True, [], "x", {"include_usage": "x"}, {"include_usage": []}),
    "n": (0, 2, -1, "1", 1.5, [], {}),
    "tools": (3, True, {}, "x", [{}], [{"type": "function", "function": {"name": "f"}}], [None]),
    "response_format": (3, [], "json", {}, {"type": "json_object"}, {"type": 3}, {"type": None}),
}
RERANKS = ("query", "documents", "model", "top_n", "max_tokens_per_doc", "return_documents", "raw_scores")
FIELDS: dict[str, tuple[str, ...]] = {
    "/v2/rerank": (*RERANKS, "return_text"),
    "/v1/rerank": (*RERANKS, "return_text"),
    "/rerank": ("query", "texts", "model", "top_n", "raw_scores", "return_text", "max_tokens_per_doc"),
    "/v1/chat/completions": (
        *("messages", "documents", "model", "stream", "stream_options", "n", "tools", "response_format"),
    ),
    "/v1/answer": ("question", "documents", "model", "samples"),
}
DEEP = 50_000
NOT_JSON: tuple[bytes, ...] = (
    *(b"", b"{", b"}", b"nul", b"NaN", b"-Infinity", b"'a'", b"{'query': 'q'}", b'{"query": "q",}', b"\x00"),
    *(b'{"query": "\x00"}', b'{"query": "\xc3"}', b'{"query": "\\ud800"}', b'{"\\udfff": 1}', b"\xff\xfe"),
    *(b'{"top_n": 1e}', b'{"top_n": 01}', b'{"top_n": 0x10}', b'{"a": NaN}', b"[1, 2", b'{"a": 1} {"a": 1}'),
    *(b"query=q&documents=a", b"<query>q</query>", b'--x\r\nContent-Disposition: form-data; name="q"\r\n'),
    *(b"[" * DEEP + b"]" * DEEP, b'{"documents":' * DEEP + b"1" + b"}" * DEEP, b"[" * DEEP, b'{"a":' * DEEP),
    *(b"null", b"3", b"true", b'"text"', b"[]", b"{}", b"[{}]", b'"\\u0000"', b"1e999999", b"9" * 5_000),
)  # fmt: skip


def broken() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Requests of which none may be answered: route, body, headers."""
    for route, good in GOOD.items():
        for field in FIELDS[route]:
            for value in WRONG[field]:
                yield route, json.dumps({**good, field: value}).replace("Infinity", "1e400").encode(), {}
            if field in good and field not in ("documents", "texts", "samples"):
                yield route, json.dumps({k: v for k, v in good.items() if k != field}).encode(), {}
        text = json.dumps(good)
        whole = text.encode()
        for body in NOT_JSON:
            yield route, body, {}
        for cut in range(1, len(whole), 2):
            yield route, whole[:cut], {}
        passages = "texts" if "texts" in good else "documents"
        for value in (
            3,
            None,
            True,
            [],
            {},
            ["a"],
            {"title": "t"},
            {"text": None},
            "a\x00",
            1.5,
            {"text": ["a"]},
        ):
            yield route, json.dumps({**good, passages: [*PASSAGES, value, "b"]}).encode(), {}
        for encoded in (text.encode("utf-16"), text.encode("utf-32"), gzip.compress(whole, mtime=0)):
            yield route, encoded, {}
            yield route, encoded, {"Content-Encoding": "gzip", "Content-Type": "application/json; charset=x"}
        for kind in ("text/plain", "multipart/form-data; boundary=x", "image/png", "x", ""):
            yield route, whole, {"Content-Type": kind}
        first = next(iter(good))
        yield route, b'{"%s": 3, %s, "%s": 3}' % (first.encode(), whole[1:-1], first.encode()), {}
    for route in ("/v1/rerank", "/v1/chat/completions"):
        yield route, b'{"query": "' + b"x" * 10_000_000 + b'"}', {}
    yield "/v1/rerank", json.dumps({**GOOD["/v1/rerank"], "texts": ["a"]}).encode(), {}


def odd(special: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that are strange and yet in order."""
    texts = [*special, "".join(special), "[1] > [2]", "\u202e\ufeff\U0001f40e", "<script>alert(1)</script>"]
    texts += ["\x01\x1b[31m\x7f", "\ufffe\uffff", "a" * 20_000, "é" * 3, "{question}{passages}", "%s%n{0}"]
    for text in texts:
        yield "/v1/rerank", {"query": text, "documents": [text, {"text": text, "title": text, "id": text}]}
        yield "/v1/answer", {"question": text, "documents": [text, ""], "samples": 0}
    yield "/v1/rerank", {**GOOD["/v1/rerank"], "top_n": 10**300, "max_tokens_per_doc": 10**18}
    yield (
        "/rerank",
        {**GOOD["/rerank"], "raw_scores": True, "prompt": "/etc/passwd", "retriever": "os:system"},
    )
    yield "/v1/chat/completions", {"messages": [TURN] * 300, "temperature": -7, "seed": "x", "user": {}}
    yield "/v1/answer", {"question": QUESTIONS[0], "documents": [""] * 30}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_folder(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    found = Server(folder, env=KEY)
    try:
        found.wait()
        yield found
    finally:
        found.stop()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    headers = {**HEADERS, "Content-Type": "application/json"}
    with httpx.Client(base_url=server.address, headers=headers, timeout=60) as made:
        yield made


def still_answers(client: httpx.Client) -> None:
    found = client.post("/v1/answer", json=GOOD["/v1/answer"])
    assert found.status_code == 200 and found.json()["answer"]


def test_a_thousand_broken_bodies_are_the_clients_fault(client: httpx.Client) -> None:
    requests = list(broken())
    assert len({(route, body, *headers.values()) for route, body, headers in requests}) >= 1000
    for route, body, headers in requests:
        found = client.post(route, content=body, headers=headers)
        assert 400 <= found.status_code < 500, (route, body[:200], headers, found.text)
        message = found.json()["error"]["message"]
        assert message and "\n" not in message and len(message) < 400, (body[:80], message)
        assert not any(
            theirs in message for theirs in ("Input should", "required", "Value error", "function-")
        )
    assert client.get("/v1/rerank").status_code == 405 and client.get("/nowhere").status_code == 404
    still_answers(client)


def test_odd_bodies_are_answered(client: httpx.Client, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "selector")
    for route, body in odd(sorted(set(tokenizer.all_special_tokens))):
        found = client.post(route, json=body)
        assert found.status_code == 200, (route, body, found.text)
    still_answers(client)


def test_broken_http(server: Server, client: httpx.Client) -> None:
    place = urlsplit(server.address)
    head = "POST /v1/answer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
    for sent in (
        *(
            "nonsense\r\n\r\n",
            "POST /v1/answer HTTP/9.9\r\n\r\n",
            "POST /v1/\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ),
        *(f"{head}Content-Length: -4\r\n\r\n", f"{head}Content-Length: x\r\n\r\n", f"{head}{'x' * 200_000}"),
        f"{head}Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
        f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        f"{head}Content-Length: 50\r\n\r\n{{",  # and then the client leaves
    ):
        with socket.create_connection((str(place.hostname), place.port or 0), timeout=20) as raw:
            raw.sendall(sent.encode("latin-1"))
            try:
                raw.shutdown(socket.SHUT_WR)
            except OSError as error:  # the server may have closed it by now
                assert error.errno == errno.ENOTCONN
            answer = b""
            with suppress(ConnectionResetError):  # the server may close before it has read all
                answer = b"".join(iter(lambda: raw.recv(65_536), b""))
        assert not answer or answer.split()[1].startswith(b"4"), (sent[:80], answer[:200])
    still_answers(client)


def no_server_error(server: Server, examples: int) -> None:
    """As many requests for every route that its document allows, and as many that it does not."""
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json", headers=HEADERS)
    asked: set[str] = set()

    def check(case: schemathesis.Case) -> None:
        found = case.call(base_url=server.address, headers=HEADERS, timeout=60)
        assert found.status_code < 500, (case.operation.label, case.body, found.text)
        asked.add(case.operation.label)

    for operation in (result.ok() for result in schema.get_all_operations()):
        modes = schemathesis.GenerationMode
        for mode in (modes.POSITIVE, modes.NEGATIVE) if operation.body else (modes.POSITIVE,):
            strategy = operation.as_strategy(generation_mode=mode)
            limits = settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            limits(given(strategy)(check))()
    assert {f"POST {route}" for route in GOOD} < asked


def test_what_the_document_allows_and_what_it_does_not(server: Server, client: httpx.Client) -> None:
    no_server_error(server, 12)
    still_answers(client)


@pytest.mark.soak
def test_the_same_for_long(server: Server, client: httpx.Client) -> None:
    no_server_error(server, 1000)
    still_answers(client)
