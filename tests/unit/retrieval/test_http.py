"""Search services against a stand-in server in this process."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ragdro import json_http as module
from ragdro.config.retriever import ElasticService, ExternalSettings, JsonService
from ragdro.errors import RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.types import Candidates, Question

Reply = tuple[int, dict[str, str], Any]
ASKED = [Question(f"q{i}", f"question {i}?", ()) for i in range(5)]


class StandIn:
    """A server that answers each request by a function, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.answer: Callable[[str, Any], Reply] = lambda path, body: (500, {}, {})
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.requests.append((self.path, dict(self.headers), body))
                status, headers, values = stand_in.answer(self.path, body)
                data = values if isinstance(values, bytes) else json.dumps(values).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that has gone away is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def server() -> Iterator[StandIn]:
    stand_in = StandIn()
    thread = threading.Thread(target=stand_in.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield stand_in
    stand_in.server.shutdown()
    stand_in.server.server_close()
    thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, none of which is waited for."""
    slept: list[float] = []
    monkeypatch.setattr(module, "time", type("Clock", (), {"sleep": slept.append}))
    return slept


def by_protocol(path: str, body: Any) -> Reply:
    listed = [
        {
            "question_id": asked["id"],
            "passages": [
                {"id": f"d{i}", "title": "T", "text": asked["question"]} for i in range(body["top_n"])
            ],
            "scores": [float(-i) for i in range(body["top_n"])],
        }
        for asked in body["questions"]
    ]
    return 200, {}, {"candidates": listed[::-1]}


def search(source: JsonService | ElasticService, top_n: int = 2) -> list[Candidates]:
    return list(make_retriever(ExternalSettings(source=source)).search(ASKED, top_n))


def test_the_json_protocol(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", "Bearer 123")
    server.answer = by_protocol
    source = JsonService(url=f"{server.url}/search", headers={"Authorization": "$SEARCH_KEY", "X-Plain": "y"})
    candidates = search(source)
    assert [c.question_id for c in candidates] == [q.id for q in ASKED]
    assert [c.passages[1].text for c in candidates] == [q.question for q in ASKED]
    assert candidates[0].scores == (0.0, -1.0)
    [(path, headers, body)] = server.requests
    assert path == "/search" and headers["Authorization"] == "Bearer 123" and headers["X-Plain"] == "y"
    assert body["questions"][0] == {"id": "q0", "question": "question 0?"} and body["top_n"] == 2
    monkeypatch.delenv("SEARCH_KEY")
    with pytest.raises(RetrievalError, match=r"\$SEARCH_KEY is not set"):
        search(source)


def test_elasticsearch(server: StandIn) -> None:
    def answer(path: str, body: Any) -> Reply:
        text = body["query"]["multi_match"]["query"]
        hits = [
            {"_id": f"d{i}", "_score": 9.0 - i, "_source": {"heading": f"T{i}", "body": text}}
            for i in range(body["size"])
        ]
        return 200, {}, {"hits": {"hits": hits}}

    server.answer = answer
    source = ElasticService(
        url=f"{server.url}/wiki/", title_field="heading", text_field="body", title_boost=2
    )
    candidates = search(source, 3)
    assert [
        (c.question_id, c.passages[2].id, c.passages[2].title, c.passages[2].text) for c in candidates
    ] == [(q.id, "d2", "T2", q.question) for q in ASKED]
    assert candidates[0].scores == (9.0, 8.0, 7.0)
    path, _, body = server.requests[0]
    assert path == "/wiki/_search"
    assert body["query"]["multi_match"]["fields"] == ["heading^2", "body"]


def test_retries_back_off_and_honour_what_the_service_asks(server: StandIn, waits: list[float]) -> None:
    troubles = iter([(503, {}, {}), (429, {"Retry-After": "7"}, {}), (500, {}, b"<html>")])

    def answer(path: str, body: Any) -> Reply:
        return next(troubles, None) or by_protocol(path, body)

    server.answer = answer
    assert len(search(JsonService(url=server.url, backoff_seconds=0.5))) == len(ASKED)
    assert waits == [0.5, 7.0, 2.0]
    assert len(server.requests) == 4


def test_giving_up_names_the_service_and_the_cause(server: StandIn, waits: list[float]) -> None:
    server.answer = lambda path, body: (503, {}, b"busy")
    with pytest.raises(RetrievalError, match=f"{server.url}: gave up after 3 tries: status 503: busy"):
        search(JsonService(url=server.url, retries=2))
    assert len(waits) == 2
    server.answer = lambda path, body: (401, {}, b"who are you")
    server.requests.clear()
    with pytest.raises(RetrievalError, match="status 401: who are you"):
        search(JsonService(url=server.url))
    assert len(server.requests) == 1


def test_a_slow_service_times_out_and_an_absent_one_is_retried(server: StandIn, waits: list[float]) -> None:
    def slow(path: str, body: Any) -> Reply:
        time.sleep(0.3)
        return by_protocol(path, body)

    server.answer = slow
    with pytest.raises(RetrievalError, match="gave up after 2 tries: ReadTimeout"):
        search(JsonService(url=server.url, retries=1, timeout_seconds=0.05))
    with pytest.raises(RetrievalError, match="gave up after 2 tries: ConnectError"):
        search(JsonService(url="http://127.0.0.1:9", retries=1))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"{", "the reply is not JSON"),
        ([], "not a JSON object"),
        ({"hits": []}, "no list 'candidates'"),
        ({"candidates": []}, "no candidates of question 'q0'"),
        ({"candidates": [{"question_id": "q0", "passages": [{"id": "d"}]}]}, r"passages\[0\]\.title"),
    ],
)
def test_replies_that_break_the_protocol_are_named(server: StandIn, reply: Any, message: str) -> None:
    server.answer = lambda path, body: (200, {}, reply)
    with pytest.raises(RetrievalError, match=f"{server.url}: .*{message}"):
        search(JsonService(url=server.url))


def test_an_elasticsearch_reply_without_the_field_is_named(server: StandIn) -> None:
    hits = {"hits": {"hits": [{"_id": "d", "_score": 1.0, "_source": {"title": "T"}}]}}
    server.answer = lambda path, body: (200, {}, hits)
    with pytest.raises(RetrievalError, match="unexpected reply to question 'q0': KeyError 'text'"):
        search(ElasticService(url=server.url), 1)


def test_too_few_hits_are_an_error_with_both_numbers(server: StandIn) -> None:
    server.answer = lambda path, body: by_protocol(path, {**body, "top_n": 1})
    with pytest.raises(RetrievalError, match="question 'q0': the external retriever has 1 of top_n = 2"):
        search(JsonService(url=server.url))
