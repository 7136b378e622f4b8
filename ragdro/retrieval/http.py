"""Search services over HTTP: Elasticsearch or OpenSearch, and anything that speaks our JSON protocol.

The JSON protocol is one POST a batch of questions to the configured address:

    {"questions": [{"id": "q1", "question": "Who ...?"}, ...], "top_n": 20}

answered with status 200 and, for each question in any order, a line of our candidates file:

    {"candidates": [{"question_id": "q1", "passages": [{"id", "title", "text"}, ...], "scores": [...]}]}

best first, `scores` null or absent where there are none. Elasticsearch gets one `_search` a question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ragdro.config.retriever import ElasticService, ExternalSettings, JsonService
from ragdro.errors import DataError, RetrievalError
from ragdro.json_http import JsonClient
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.candidates import decode_line
from ragdro.types import Candidates, Passage, Question


class JsonServiceRetriever(Retriever[ExternalSettings]):
    """A service that speaks our JSON protocol."""

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        service = self.settings.source
        assert isinstance(service, JsonService)
        asked = [{"id": question.id, "question": question.question} for question in questions]
        with _client(service) as client:
            reply = client.post(service.url, {"questions": asked, "top_n": top_n})
        listed = reply.get("candidates")
        if not isinstance(listed, list):
            raise RetrievalError(f"{service.url}: the reply has no list 'candidates'")
        candidates_of_id = {}
        for entry in listed:
            try:
                candidates = decode_line(json.dumps(entry).encode(), {}, Path("reply"), 1)
            except DataError as error:
                raise RetrievalError(f"{service.url}: {error}") from error
            candidates_of_id[candidates.question_id] = candidates
        missing = [question.id for question in questions if question.id not in candidates_of_id]
        if missing:
            raise RetrievalError(f"{service.url}: the reply has no candidates of question {missing[0]!r}")
        return [_cut(candidates_of_id[question.id], top_n) for question in questions]


class ElasticRetriever(Retriever[ExternalSettings]):
    """An Elasticsearch or OpenSearch index, asked with a `multi_match` over title and text."""

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        service = self.settings.source
        assert isinstance(service, ElasticService)
        address = f"{service.url.rstrip('/')}/_search"
        fields = [f"{service.title_field}^{service.title_boost:g}", service.text_field]

        def search(question: Question) -> Candidates:
            query = {"multi_match": {"query": question.question, "fields": fields}}
            body = {"size": top_n, "query": query, "_source": [service.title_field, service.text_field]}
            return _from_elastic(client.post(address, body), question.id, service)

        with _client(service) as client, ThreadPoolExecutor(service.concurrency) as pool:
            return list(pool.map(search, questions))


def _from_elastic(reply: dict[str, Any], question_id: str, service: ElasticService) -> Candidates:
    """The hits of one reply; RetrievalError names what it lacks."""
    try:
        hits = reply["hits"]["hits"]
        passages = tuple(
            Passage(
                str(hit["_id"]),
                str(hit["_source"].get(service.title_field) or ""),
                str(hit["_source"][service.text_field]),
            )
            for hit in hits
        )
        return Candidates(question_id, passages, tuple(float(hit["_score"]) for hit in hits))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RetrievalError(
            f"{service.url}: unexpected reply to question {question_id!r}: {type(error).__name__} {error}"
        ) from error


def _cut(candidates: Candidates, top_n: int) -> Candidates:
    scores = None if candidates.scores is None else candidates.scores[:top_n]
    return Candidates(candidates.question_id, candidates.passages[:top_n], scores)


def _client(service: JsonService | ElasticService) -> JsonClient:
    return JsonClient(service, RetrievalError, "retriever.source")
