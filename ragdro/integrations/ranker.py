"""What the adapters share: a selector in this process, or one behind `ragdro serve`.

In: a query and documents. Out: (index, score) pairs, best first; scores as in `ragdro.selection.tournament`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ragdro.errors import ConfigError, DataError, ModelError
from ragdro.types import Candidates, Passage, Question, Task

if TYPE_CHECKING:
    from ragdro.system import Rag

SAMPLES = 64
"""Lists drawn for a score that cannot be computed exactly: as `ragdro serve` does."""


class Ranker(ABC):
    """Orders documents, (title, text) each, by their use for a query."""

    @abstractmethod
    def rank(self, query: str, documents: Sequence[tuple[str, str]]) -> list[tuple[int, float]]:
        """(index, score) of every document, best first."""


def open_ranker(system: str | Path, *, api_key: str | None = None, timeout: float = 60.0) -> Ranker:
    """The ranker behind an address (http://, https://), or of a run or an exported folder, loaded here.

    `api_key` and `timeout` (seconds) are for an address. Raises a `RagdroError` for what cannot be loaded.
    """
    if str(system).startswith(("http://", "https://")):
        if find_spec("httpx") is None:
            raise ConfigError(f"{system}: asking a server needs httpx: pip install 'ragdro[http]'")
        return HttpRanker(str(system), api_key, timeout)
    from ragdro.runs.load import load

    return LocalRanker(load(system))


class LocalRanker(Ranker):
    """A system in this process; one thread at a time has its models."""

    def __init__(self, rag: Rag) -> None:
        if not rag.selects:
            raise ConfigError("this system selects nothing (objective: sft): it cannot rerank")
        self._rag = rag
        self._lock = Lock()

    def rank(self, query: str, documents: Sequence[tuple[str, str]]) -> list[tuple[int, float]]:
        """See `Ranker`. Raises `DataError` for an empty query."""
        from ragdro.selection import tournament

        if not documents:
            return []
        if not query.strip():
            raise DataError("query: is empty")
        passages = tuple(Passage(str(i), *document) for i, document in enumerate(documents))
        task, rag = Task(Question("query", query, ()), Candidates("query", passages)), self._rag
        with self._lock:
            (order,) = tournament.order(
                rag.selector, [task], samples=SAMPLES, seed=0, max_tokens=rag.max_tokens
            )
        return [(ranked.index, ranked.score) for ranked in order]


class HttpRanker(Ranker):
    """A server that `ragdro serve` started, at `address`."""

    def __init__(self, address: str, api_key: str | None, timeout: float) -> None:
        self._url = f"{address.rstrip('/')}/v2/rerank"
        self._headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout = timeout

    def rank(self, query: str, documents: Sequence[tuple[str, str]]) -> list[tuple[int, float]]:
        """See `Ranker`. Raises `ModelError` naming the server where it does not answer, or refuses."""
        import httpx

        if not documents:
            return []
        body = {"query": query, "documents": [{"title": title, "text": text} for title, text in documents]}
        try:
            response = httpx.post(self._url, json=body, headers=self._headers, timeout=self._timeout)
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise ModelError(f"{self._url}: {cause}; is `ragdro serve` running there?") from error
        if response.status_code != 200:
            raise ModelError(f"{self._url}: {response.status_code}: {_said(response.text)}")
        return [(result["index"], result["relevance_score"]) for result in response.json()["results"]]


def _said(body: str) -> str:
    """The line of an error that a server of ours sends; of another's the beginning of whatever it is."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return body[:300]
