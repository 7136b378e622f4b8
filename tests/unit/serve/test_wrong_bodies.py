"""What a client reads of a body that is no question: where it is wrong, and what is right."""

from __future__ import annotations

from typing import Any

import pytest

from ragdro.serve.settings import ServeSettings
from tests.unit.serve.test_security import ask

_RERANK, _CHAT, _ANSWER = "/v1/rerank", "/v1/chat/completions", "/v1/answer"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (
            _RERANK,
            {"query": "q", "documents": [1]},
            "documents.0: must be text, or a mapping of keys to values",
        ),
        (_RERANK, {"query": "q", "documents": ["a", {"titel": "b"}]}, "documents.1.text: must be given"),
        (_RERANK, {"query": "q"}, "the body: give either documents or texts"),
        (
            _CHAT,
            {"messages": [{"role": "user", "content": 3}]},
            "messages.0.content: must be text, or a list",
        ),
        (
            _CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content.0.type: must be text",
        ),
        (
            _CHAT,
            {"messages": [{"role": "user", "content": "q"}], "tools": [{}]},
            "tools: are not supported; leave them out",
        ),
        (_ANSWER, [1], "the body: must be a mapping of keys to values"),
        (
            _ANSWER,
            {"question": "q", "threshold": 0.5},
            "threshold: a greedy answer has no confidence; it goes with answering: marginal",
        ),
        (
            _ANSWER,
            {"question": "q", "answering": "joint", "thoughts": 2},
            "thoughts: a joint answer has the likeliest one; they go with answering: marginal",
        ),
    ],
)
def test_it_is_said_where_it_is_wrong(path: str, body: Any, said: str) -> None:
    found = ask(ServeSettings("x"), path=path, body=body)
    assert (found.status_code, found.json()["message"]) == (400, said)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])  # what curl -d sends
def test_json_that_is_not_called_so(kind: str) -> None:
    found = ask(ServeSettings("x"), headers={"Content-Type": kind})
    assert found.status_code == 415 and found.json()["message"].endswith("Content-Type: application/json")
