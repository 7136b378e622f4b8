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
        """Candidates with retrieval scores, the selection with probabilities, the answer with its own; of a
        marginal answer the confidence and what competes; of a question that is asked more than once its
        `path`; of a generator that thinks the `thought`."""
        service.check(body.model, len(body.documents or ()))
        passages = None if body.documents is None else as_passages(body.documents)
        stage = service.stage(body.stage)
        how = body.answering_of(service.answering)
        job = AnswerJob(
            body.question,
            passages,
            samples=body.samples,
            scored=True,
            included=body.inclusion,
            stage=stage,
            answering=how,
        )
        done = await service.ask(request, job)
        assert isinstance(done, Answered)
        record = as_record(done.prediction, with_path=done.prediction.selection.path is not None)
        del record["id"]  # a request has none
        for ranked in () if done.ranked is None else done.ranked.passages:
            record["candidates"][ranked.index]["inclusion"] = ranked.inclusion
        return {
            "model": service.settings.name,
            "stage": stage or service.served.stage,
            "answering": how.kind,
            **record,
            "log_probability": done.log_probability,
            "agreement": done.agreement,
            "samples": body.samples if how.kind == "greedy" else how.samples,
            "inclusion": None
            if done.ranked is None
            else {"lists": done.ranked.lists, "exact": done.ranked.exact},
        }

    return routes
