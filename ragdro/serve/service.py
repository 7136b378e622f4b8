"""What the routes have in common: the engine, the settings, the meters."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.exceptions import HTTPException

from ragdro.serve.engine import ClientLeftError, Engine
from ragdro.serve.jobs import Job, Result
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.system import Rag

_LOOKS = 0.2
"""Seconds between two looks at whether the client is still there."""


class Service:
    """What the routes have in common: the engine, the settings, the meters."""

    def __init__(self, rag: Rag, settings: ServeSettings) -> None:
        self.settings = settings
        self.meters = Meters()
        self.engine = Engine(rag, settings, self.meters)

    async def ask(self, request: Request, job: Job) -> Result:
        """The job's result. Raises as `Engine.ask`, and `ClientLeftError` where nobody waits for it."""
        asked = asyncio.ensure_future(self.engine.ask(job))
        try:
            while not (await asyncio.wait([asked], timeout=_LOOKS))[0]:
                if await request.is_disconnected():
                    raise ClientLeftError("the client has left")
            return asked.result()
        finally:
            asked.cancel()

    def check(self, model: str | None, documents: int) -> None:
        """Raises `HTTPException` for a model of another name, and for too many documents."""
        if model is not None and model != self.settings.name:
            raise HTTPException(404, f"model: this server has {self.settings.name!r} alone")
        if documents > self.settings.max_documents:
            raise HTTPException(400, f"documents: {documents} are more than {self.settings.max_documents}")
