"""Search services over HTTP: Elasticsearch or OpenSearch, and anything that speaks our JSON protocol.

The JSON protocol is one POST a batch of questions to the configured address:

    {"questions": [{"id": "q1", "question": "Who ...?"}, ...], "top_n": 20}

answered with status 200 and, for each question in any order, a line of our candidates file:

    {"candidates": [{"question_id": "q1", "passages": [{"id", "title", "text"}, ...], "scores": [...]}]}

best first, `scores` null or absent where there are none. Elasticsearch gets one `_search` a question.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from ragdro.config.retriever import ElasticService, ExternalSettings, JsonService
from ragdro.errors import DataError, RetrievalError
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.candidates import decode_line
from ragdro.types import Candidates, Passage, Question

RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
LONGEST_WAIT = 60.0
"""Seconds; no wait between two tries is longer, whatever the service asks for."""


class JsonServiceRetriever(Retriever[ExternalSettings]):
    """A service that speaks our JSON protocol."""

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        service = self.settings.source
        assert isinstance(service, JsonService)
        asked = [{"id": question.id, "question": question.question} for question in questions]
        with _client(service) as client:
            reply = _post(client, service.url, {"questions": asked, "top_n": top_n}, service)
        listed = reply.get("candidates")
        if not isinstance(listed, list):
            raise RetrievalError(f"{service.url}: the reply has no list 'candidates'")
        found = {}
        for entry in listed:
            try:
                candidates = decode_line(json.dumps(entry).encode(), {}, Path("reply"), 1)
            except DataError as error:
                raise RetrievalError(f"{service.url}: {error}") from error
            found[candidates.question_id] = candidates
        missing = [question.id for question in questions if question.id not in found]
        if missing:
            raise RetrievalError(f"{service.url}: the reply has no candidates of question {missing[0]!r}")
        return [_cut(found[question.id], top_n) for question in questions]


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
            return _from_elastic(_post(client, address, body, service), question.id, service)

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


def _client(service: JsonService | ElasticService) -> httpx.Client:
    headers = {name: _from_environment(value) for name, value in service.headers.items()}
    return httpx.Client(headers=headers, timeout=service.timeout_seconds)


def _from_environment(value: str) -> str:
    """A header's value; `$NAME` stands for an environment variable, so that no config holds a secret."""
    if not value.startswith("$"):
        return value
    try:
        return os.environ[value[1:]]
    except KeyError as error:
        raise RetrievalError(f"retriever.source.headers: {value} is not set in the environment") from error


def _post(
    client: httpx.Client, url: str, body: dict[str, Any], service: JsonService | ElasticService
) -> dict[str, Any]:
    """The reply's JSON object, after at most `retries` further tries; RetrievalError names the cause."""
    wait, cause = service.backoff_seconds, ""
    for attempt in range(service.retries + 1):
        if attempt:
            time.sleep(min(wait, LONGEST_WAIT))
            wait = service.backoff_seconds * 2**attempt
        try:
            reply = client.post(url, json=body)
        except httpx.TransportError as error:
            cause = f"{type(error).__name__} {error}".strip()
            continue
        if reply.status_code == httpx.codes.OK:
            return _json_object(reply, url)
        cause = f"status {reply.status_code}: {reply.text[:200]}"
        if reply.status_code not in RETRIED_STATUS:
            raise RetrievalError(f"{url}: {cause}")
        wait = max(wait, _asked_wait(reply))
    raise RetrievalError(f"{url}: gave up after {service.retries + 1} tries: {cause}")


def _asked_wait(reply: httpx.Response) -> float:
    """Seconds that the service's Retry-After asks for; 0 without one (or with a date)."""
    asked = reply.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0


def _json_object(reply: httpx.Response, url: str) -> dict[str, Any]:
    try:
        values = reply.json()
    except ValueError as error:
        raise RetrievalError(f"{url}: the reply is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise RetrievalError(f"{url}: the reply is not a JSON object")
    return values
