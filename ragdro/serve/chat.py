"""`/v1/chat/completions`: OpenAI's protocol over retrieval, selection and answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from ragdro.serve.jobs import Answered, AnswerJob
from ragdro.serve.schemas import ChatRequest, as_passages
from ragdro.serve.service import Service
from ragdro.serve.sources import citations, url_citations

_NOT_READ = ("system", "developer", "tool")


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["chat"])

    @routes.post("/v1/chat/completions")
    async def complete(request: Request, body: ChatRequest) -> Response:
        """Answer the last turn. Answers are greedy, so sampling parameters change nothing."""
        service.check(body.model, len(body.documents or ()))
        passages = None if body.documents is None else as_passages(body.documents)
        how = body.changed(service.answering)
        done = await service.ask(request, AnswerJob(body.question, passages, answering=how))
        assert isinstance(done, Answered)
        headers = {}
        if any(message.role in _NOT_READ for message in body.messages):
            headers["X-Ragdro-Not-Read"] = "system, developer and tool messages"
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": service.settings.name}
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            events = _events(head, done, with_usage=usage)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        message = {
            "role": "assistant",
            "content": done.prediction.shown,
            "refusal": None,
            "annotations": url_citations(done.prediction),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        answer = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(done)}
        return JSONResponse({**answer, **_sources(done)}, headers=headers)

    return routes


def _sources(done: Answered) -> dict[str, Any]:
    """Beside OpenAI's: the citations and, of a marginal answer, the confidence."""
    distribution = done.prediction.distribution
    confidence = {} if distribution is None else {"confidence": distribution.confidence}
    return {"citations": citations(done.prediction), **confidence}


def _usage(done: Answered) -> dict[str, int]:
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.answer_tokens,
        "total_tokens": done.prompt_tokens + done.answer_tokens,
    }


def _events(head: dict[str, Any], done: Answered, *, with_usage: bool) -> Iterator[str]:
    """Server-sent events: the answer word by word once it is whole, the sources with its end."""

    def event(delta: dict[str, Any], finish: str | None = None, **rest: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return _line({**head, "object": "chat.completion.chunk", "choices": [choice], **rest})

    yield event({"role": "assistant", "content": ""})
    for word in re.findall(r"\s*\S+\s*?(?=\s|$)", done.prediction.shown):
        yield event({"content": word})
    yield event({"annotations": url_citations(done.prediction)}, "stop", **_sources(done))
    if with_usage:
        yield _line({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(done)})
    yield "data: [DONE]\n\n"


def _line(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
