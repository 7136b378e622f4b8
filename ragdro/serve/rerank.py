"""`/rerank`, `/v1/rerank`, `/v2/rerank`: documents in the selector's order, with probabilities as scores."""

from __future__ import annotations

import math
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request

from ragdro.serve.jobs import Reranked, RerankJob
from ragdro.serve.schemas import Document, Documents, RerankRequest, as_passages
from ragdro.serve.service import Service

_CERTAIN = 1e-6
"""Log-odds are those of a probability at least so far from 0 and 1: infinity is no JSON."""


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["rerank"])

    async def ranked(request: Request, body: RerankRequest, documents_returned: bool) -> Any:
        documents: Documents = list(body.texts or ()) if body.documents is None else body.documents
        service.check(body.model, len(documents))
        job = RerankJob(body.query, as_passages(documents), body.max_tokens_per_doc)
        done = await service.ask(request, job)
        assert isinstance(done, Reranked)
        if body.texts is not None:
            return _tei(body, done)
        returned = documents_returned if body.return_documents is None else body.return_documents
        results = []
        for entry in done.order[: body.top_n]:
            result: dict[str, Any] = {"index": entry.index, "relevance_score": _score(body, entry.score)}
            result["selected"] = entry.probability is not None
            if returned:
                result["document"] = _document(documents[entry.index])
            results.append(result)
        return {
            "id": f"rerank-{uuid4()}",
            "object": "list",
            "model": service.settings.name,
            "results": results,
            "usage": {"total_tokens": done.tokens, "prompt_tokens": done.tokens},
            "meta": {"api_version": {"version": "2"}},
        }

    @routes.post("/v2/rerank")
    async def cohere(request: Request, body: RerankRequest) -> Any:
        """Cohere's: documents are returned if `return_documents` says so."""
        return await ranked(request, body, documents_returned=False)

    @routes.post("/v1/rerank")
    async def jina(request: Request, body: RerankRequest) -> Any:
        """Jina's and vLLM's: documents are returned unless `return_documents` is false."""
        return await ranked(request, body, documents_returned=True)

    @routes.post("/rerank")
    async def tei(request: Request, body: RerankRequest) -> Any:
        """As /v1/rerank; with `texts`, the bare list of Text Embeddings Inference."""
        return await ranked(request, body, documents_returned=True)

    return routes


def _tei(body: RerankRequest, done: Reranked) -> list[dict[str, Any]]:
    assert body.texts is not None
    return [
        {
            "index": r.index,
            "score": _score(body, r.score),
            **({"text": body.texts[r.index]} if body.return_text else {}),
        }
        for r in done.order[: body.top_n]
    ]


def _score(body: RerankRequest, score: float) -> float:
    """The probability; with `raw_scores` its log-odds."""
    if not body.raw_scores:
        return score
    inside = min(max(score, _CERTAIN), 1 - _CERTAIN)
    return math.log(inside / (1 - inside))


def _document(document: str | Document) -> dict[str, str]:
    if isinstance(document, str):
        return {"text": document}
    named = {"id": document.id or "", "title": document.title, "text": document.text}
    return {key: value for key, value in named.items() if value or key == "text"}
