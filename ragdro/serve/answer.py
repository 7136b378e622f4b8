"""`/v1/answer`: all that the system says about a question."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from ragdro.report.predictions import as_record
from ragdro.serve.jobs import Answered, AnswerJob
from ragdro.serve.schemas import AnswerRequest, as_passages
from ragdro.serve.service import Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["answer"])

    @routes.post("/v1/answer")
    async def answer(request: Request, body: AnswerRequest) -> Any:
        """Candidates with retrieval scores, the selection with probabilities, the answer with its own."""
        service.check(body.model, len(body.documents or ()))
        passages = None if body.documents is None else as_passages(body.documents)
        job = AnswerJob(body.question, passages, samples=body.samples, scored=True)
        done = await service.ask(request, job)
        assert isinstance(done, Answered)
        record = as_record(done.prediction)
        del record["id"]  # a request has none
        return {
            "model": service.settings.name,
            **record,
            "log_probability": done.log_probability,
            "agreement": done.agreement,
            "samples": body.samples,
        }

    return routes
