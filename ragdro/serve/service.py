"""What the routes have in common: the engine, the settings, the meters."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.exceptions import HTTPException

from ragdro.errors import brief
from ragdro.serve.engine import ClientLeftError, Engine
from ragdro.serve.jobs import Job, Result
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.serve.stages import Served
from ragdro.system import Rag

_LOOKS = 0.2
"""Seconds between two looks at whether the client is still there."""


class Service:
    """What the routes have in common: the engine, the settings, the meters."""

    def __init__(self, rag: Rag, settings: ServeSettings, served: Served) -> None:
        self.rag = rag
        self.settings = settings
        self.served = served
        self.answering = rag.answering
        self.meters = Meters()
        self.engine = Engine(rag, settings, self.meters, served.others)

    @property
    def stages(self) -> list[str]:
        """What can be asked; the first one answers where nothing else is said."""
        return [self.served.stage, *self.served.others]

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

    def stage(self, name: str | None) -> str | None:
        """As jobs name it: None for the server's own. Raises `HTTPException` for one that is not served."""
        if name is None or name == self.served.stage:
            return None
        if name not in self.served.others:
            there = ", ".join(self.stages)
            raise HTTPException(404, f"stage: {brief(name)} is not served; there is {there}")
        return name
