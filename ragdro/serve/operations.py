"""What operators ask: models, health, readiness, metrics."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from ragdro.serve.service import Service


def router(service: Service) -> APIRouter:
    """The routes."""
    routes, started = APIRouter(tags=["operations"]), int(time.time())

    @routes.get("/v1/models")
    async def models() -> Any:
        """The one model that there is."""
        model = {"id": service.settings.name, "object": "model", "created": started, "owned_by": "ragdro"}
        return {"object": "list", "data": [model]}

    @routes.get("/healthz")
    async def health() -> Any:
        """Whether the process is alive."""
        return {"status": "ok"}

    @routes.get("/readyz")
    async def ready() -> Any:
        """Whether questions are taken."""
        if service.engine.is_ready:
            return {"status": "ready"}
        return JSONResponse({"status": "not ready"}, 503)

    @routes.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.meters.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
