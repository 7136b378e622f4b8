"""The page at `/`, and what it asks for beside answers: what is served, and examples of the run.

In: the files in `static/`, read once. Out: routes. The page gets everything from this server, runs no script
but its own, and has no text of data or models in its HTML: its script writes such text as text.
"""

from __future__ import annotations

import asyncio
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Response
from starlette.exceptions import HTTPException

from ragdro.report.changes import EXAMPLES, Change, Record, find_changes
from ragdro.serve.service import Service

FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.css": ("page.css", "text/css"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/server.js": ("server.js", "text/javascript"),
    "/page/show.js": ("show.js", "text/javascript"),
    "/page/text.js": ("text.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path: file and media type."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["page"])
    for path, (name, media_type) in FILES.items():
        content = (files("ragdro.serve") / "static" / name).read_bytes()
        routes.add_api_route(
            path, _file(content, media_type), include_in_schema=False, methods=["GET", "HEAD"]
        )

    @routes.get("/v1/system")
    async def system() -> Any:
        """What is served: stages (the first one answers where nothing else is said), sizes, limits."""
        rag, settings = service.rag, service.settings
        return {
            "model": settings.name,
            "stages": service.stages,
            "searches": service.served.searches,
            "selected": rag.selector.k,
            "candidates": rag.selector.n,
            "answering": service.answering.kind,
            "examples": service.served.run is not None,
            "max_body": settings.max_body,
            "max_documents": settings.max_documents,
        }

    @cache
    def changed() -> dict[str, Any]:
        assert service.served.run is not None
        changes = find_changes(service.served.run)
        groups = [
            {"title": title, "count": len(group), "examples": [_example(c) for c in group[:EXAMPLES]]}
            for title, group in changes.groups
        ]
        return {"questions": changes.questions, "groups": groups}

    @routes.get("/v1/examples")
    async def examples() -> Any:
        """Questions whose answer changed while the run went on, before and after."""
        if service.served.run is None:
            raise HTTPException(404, "no examples: this folder is no run, or one that has not finished")
        return await asyncio.to_thread(changed)

    return routes


def _file(content: bytes, media_type: str) -> Any:
    async def answer() -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return answer


def _example(change: Change) -> dict[str, Any]:
    return {
        "question": change.before.get("question", ""),
        "answers": change.before["answers"],
        "before": _side(change.before, change.between or "warm-up"),
        "after": _side(change.after, "last iteration" if change.between else "best"),
    }


def _side(record: Record, stage: str) -> dict[str, Any]:
    known = ("id", "title", "text", "probability", "rank_in_candidates")
    read = [{key: entry[key] for key in known} for entry in record.get("selection", [])]
    right = bool(record["exact_match"])
    return {"stage": stage, "answer": record["answer"], "right": right, "selection": read}
