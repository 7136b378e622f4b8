"""Passages in a collection of Qdrant, in a folder or on a server: words, vectors, token vectors, or several.

    sparse   BM25 over the collection (`ragdro.retrieval.sparse`)
    dense    what the collection compares vectors by; a distance is a score below 0
    multi    MaxSim of their token vectors

Equal scores stand in the order of the ids among the hits that Qdrant gives. A question that is itself a
passage is recognised in collections that `ragdro index` filled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from qdrant_client import models

from ragdro.config.stores import QdrantSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.database import DatabaseRetriever, Ranking, source_of
from ragdro.retrieval.qdrant_collection import (
    check_collection,
    is_distance,
    manifest_of,
    point_id,
    vector_width,
)
from ragdro.retrieval.qdrant_fill import Fill
from ragdro.retrieval.qdrant_session import QdrantSession
from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates, Passage, Question

PAGE = 256
"""Points read at once where all are."""


class QdrantRetriever(DatabaseRetriever[QdrantSettings]):
    """The passages of a collection."""

    def __init__(self, settings: QdrantSettings, *, show_progress: bool = False) -> None:
        super().__init__(settings, show_progress=show_progress)
        self.embeddings = {}
        if settings.dense is not None or settings.multi is not None:
            from ragdro.retrieval.embedding import Embedding, TokenEmbedding

            if settings.dense is not None:
                self.embeddings["dense"] = Embedding(settings.dense)
            if settings.multi is not None:
                self.embeddings["multi"] = TokenEmbedding(settings.multi)
        self.words = None
        if settings.sparse is not None:
            from ragdro.retrieval.sparse import SparseWords

            self.words = SparseWords(settings.sparse)
        self._session = QdrantSession(settings)
        self.place = f"{self._session.place}, collection {settings.collection}"
        self._known: dict[str, Any] | None = None

    def written(self) -> dict[str, Any]:
        settings = self.settings
        written: dict[str, Any] = {
            "payload": settings.payload.model_dump(),
            "sparse": None if settings.sparse is None else settings.sparse.model_dump(exclude={"weight"}),
            "dense": None,
            "multi": None,
        }
        if self.embeddings:
            from ragdro.retrieval.embedding import written_by

            for key, embedding in self.embeddings.items():
                written[key] = {"name": getattr(settings, key).name, **written_by(embedding.settings)}
        return written

    def manifest(self) -> dict[str, Any] | None:
        if self._known is None and self._session.is_there():
            self._known = self._session.run(lambda client: manifest_of(client, self.settings.collection))
        return self._known

    def check(self) -> int:
        filled = self.manifest() is not None
        if not self._session.is_there():
            raise RetrievalError(
                f"{self._session.place}: there is no such folder: ragdro index --kind qdrant --set"
                f" path={self.settings.path} --corpus ... makes and fills it"
            )
        points = self._session.run(
            lambda client: check_collection(client, self.settings, self.place, filled=filled)
        )
        self.check_manifest(points)
        return points

    def passages(self) -> Iterator[Passage]:
        offset: Any = None
        while True:
            records, offset = self._scroll(PAGE, offset)
            yield from map(self._passage, records)
            if offset is None:
                return

    def _scroll(self, count: int, offset: Any = None) -> Any:
        """`count` records from `offset` on, and the offset of those after them."""
        name = self.settings.collection
        return self._session.run(
            lambda client: client.scroll(name, limit=count, offset=offset, with_payload=True)
        )

    def _check_widths(self) -> None:
        for key, embedding in self.embeddings.items():
            from ragdro.retrieval.embedding import check_width

            name = getattr(self.settings, key).name
            width = self._session.run(partial(vector_width, collection=self.settings.collection, name=name))
            check_width(embedding, width, f"retriever.{key}", f"{self.place}, vector {name!r}")

    def _with_ids(self, ids: Sequence[str]) -> list[Passage]:
        if self.manifest() is None:
            return []
        points, name = [point_id(passage_id) for passage_id in ids], self.settings.collection
        records = self._session.run(lambda client: client.retrieve(name, points, with_payload=True))
        return [self._passage(record) for record in records]

    def _first(self, count: int) -> list[Passage]:
        return [self._passage(record) for record in self._scroll(count)[0]]

    def _rankings(self, questions: Sequence[Question], top_n: int) -> list[Ranking]:
        settings, texts = self.settings, [question.question for question in questions]
        asked: list[tuple[str, float, list[Any]]] = []
        if settings.sparse is not None and self.words is not None:
            queries = [self.words.of_question(text) for text in texts]
            vectors = [models.SparseVector(indices=[*q], values=[*q.values()]) for q in queries]
            asked.append((settings.sparse.name, settings.sparse.weight, vectors))
        for key, embedding in self.embeddings.items():
            vector_settings = getattr(settings, key)
            vectors = [vector.tolist() for vector in embedding.of_questions(texts)]
            asked.append((vector_settings.name, vector_settings.weight, vectors))
        depth = self._depth(top_n, len(asked))
        return [
            Ranking(weight, self._hits(questions, name, queries, depth)) for name, weight, queries in asked
        ]

    def _hits(
        self, questions: Sequence[Question], name: str, queries: Sequence[Any], depth: int
    ) -> list[Candidates]:
        requests = [
            models.QueryRequest(
                query=query,
                using=name or None,
                limit=depth,
                with_payload=True,
                params=models.SearchParams(exact=self.settings.exact),
            )
            for query in queries
        ]
        replies = self._session.run(
            lambda client: client.query_batch_points(self.settings.collection, requests)
        )
        nearest_least = self._session.run(
            partial(is_distance, collection=self.settings.collection, name=name)
        )
        sign = -1.0 if nearest_least else 1.0
        return [
            self._candidates(question.id, reply.points, sign)
            for question, reply in zip(questions, replies, strict=True)
        ]

    def _candidates(self, question_id: str, points: Sequence[models.ScoredPoint], sign: float) -> Candidates:
        """The passages with `sign` times what Qdrant gives, which is the larger the better."""
        hits = [(-sign * point.score, self._passage(point)) for point in points]
        hits.sort(key=lambda hit: (hit[0], hit[1].id))
        return Candidates(question_id, tuple(p for _, p in hits), tuple(-score for score, _ in hits))

    def _passage(self, point: models.Record | models.ScoredPoint) -> Passage:
        names, payload = self.settings.payload, point.payload or {}
        text = _value(payload, names.text)
        if not isinstance(text, str):
            raise RetrievalError(
                f"{self.place}: retriever.payload.text: point {point.id} has no text {names.text!r}; it has"
                f" {', '.join(payload) or 'no payload'}"
            )
        passage_id = point.id if names.id is None else _value(payload, names.id)
        if passage_id is None:
            raise RetrievalError(
                f"{self.place}: retriever.payload.id: point {point.id} has no {names.id!r}; it has"
                f" {', '.join(payload)}; null: the point's own id"
            )
        title = None if names.title is None else _value(payload, names.title)
        source = None if names.source is None else _value(payload, names.source)
        return Passage(
            str(passage_id), "" if title is None else str(title), text, source=source_of(source, text)
        )

    def _fill(self, store: PassageStore, manifest: dict[str, Any]) -> None:
        fill = Fill(self.settings, self.embeddings, self.words, manifest, self.place)
        fill.run(self._session, store, self.show_progress)
        self._known = None


def _value(payload: Mapping[str, Any], dotted: str) -> Any:
    """The field of that name, or the field inside of a field."""
    if dotted in payload:
        return payload[dotted]
    value: Any = payload
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
