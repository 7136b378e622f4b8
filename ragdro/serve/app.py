"""The application: routes, what guards them, and errors in one line each."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from ragdro.config.words import in_words
from ragdro.errors import RagdroError, RetrievalError
from ragdro.serve import answer, chat, operations, page, rerank
from ragdro.serve.engine import ClientLeftError, LateError, OverloadedError
from ragdro.serve.guard import Guard, error_body
from ragdro.serve.service import Service
from ragdro.serve.settings import ServeSettings
from ragdro.serve.stages import Served
from ragdro.system import Rag

_STATUS: tuple[tuple[type[RagdroError], int], ...] = (
    (OverloadedError, 429),
    (LateError, 504),
    (ClientLeftError, 499),
    (RetrievalError, 502),
    (RagdroError, 400),
)
_JSON = "application/json"
_KEYLESS = frozenset({"/healthz", "/readyz"})
"""What a supervisor asks. The page's files need no key either: they are the same for everyone."""


def create_app(rag: Rag, settings: ServeSettings, served: Served | None = None) -> FastAPI:
    """The application over a loaded system, which from here on belongs to the application's own thread.

    `served`: what else there is of the run (None: nothing).
    """
    service = Service(rag, settings, served or Served())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await service.engine.stop()

    app = FastAPI(title="ragdro", version=version("ragdro"), lifespan=lifespan, redoc_url=None)
    for routes in (rerank, chat, answer, page, operations):
        app.include_router(routes.router(service))
    app.exception_handler(RagdroError)(_own_error)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(Exception)(_fault)
    paths = frozenset(app.openapi()["paths"]) | {"/docs", "/openapi.json", *page.FILES}
    app.add_middleware(
        Guard, settings=settings, meters=service.meters, routes=paths, keyless=_KEYLESS.union(page.FILES)
    )
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def _own_error(request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, OverloadedError) else None
    return JSONResponse(error_body(str(error), status), status, headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        return JSONResponse(error_body(f"send the body with the header Content-Type: {_JSON}", 415), 415)
    where, message = _complaint(error.errors())
    return JSONResponse(error_body(f"{where or 'the body'}: {message[:300]}", 400, param=where or None), 400)


def _complaint(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The place of the first complaint, and its words. The members of a union complain each: of one that is
    wrong further inside, that alone is said."""
    places = [_place(one["loc"]) for one in errors]
    same = [i for i, place in enumerate(places) if place[: len(places[0])] == places[0]]
    depth = max(len(places[i]) for i in same)
    deepest = next(i for i in same if len(places[i]) == depth)
    messages = dict.fromkeys(in_words(errors[i]) for i in same if places[i] == places[deepest])
    first, *others = messages
    message = ", or ".join([first, *(words.removeprefix("must be ") for words in others)])
    return ".".join(places[deepest]), message


def _place(location: Sequence[object]) -> list[str]:
    """Without the checker's names for members of unions: `str`, `Document`, `list[TextPart]`."""
    parts = [str(part) for part in location if part != "body"]
    return [part for part in parts if part == part.lower() and "[" not in part]


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(str(error.detail), error.status_code), error.status_code, error.headers)


def _fault(request: Request, error: Exception) -> JSONResponse:
    """Ours: what went wrong is in the log (with its traceback, without the request) and not in the answer."""
    logging.getLogger("ragdro.serve").error("%s", type(error).__name__, exc_info=error)
    return JSONResponse(error_body("the server failed; its log says more", 500), 500)
