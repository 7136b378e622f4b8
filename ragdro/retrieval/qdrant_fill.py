"""Filling a collection of Qdrant from a corpus: beside the old one, and then in its place.

Points are written in the corpus's order, a batch a request, into a collection of its own, which knows in its
metadata what it is filled with. A fill that was cut off is resumed after its last whole batch. One request
then moves the alias, which is the store's name; what it named before is removed after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from qdrant_client import QdrantClient, models

from ragdro.config.stores import QdrantSettings
from ragdro.data.own import source_object
from ragdro.errors import RetrievalError
from ragdro.progress import track
from ragdro.retrieval.qdrant_collection import (
    as_metadata,
    filled_collection,
    fills_of,
    manifest_of,
    point_id,
    target_of,
    written_manifest,
)
from ragdro.retrieval.qdrant_session import QdrantSession
from ragdro.retrieval.store import PassageStore
from ragdro.types import Passage

if TYPE_CHECKING:
    from ragdro.retrieval.embedding import Embedding, TokenEmbedding
    from ragdro.retrieval.sparse import SparseWords


@dataclass(frozen=True)
class Fill:
    """What is written: by which settings, encoders and rules for words, under which manifest."""

    settings: QdrantSettings
    embeddings: Mapping[str, Embedding | TokenEmbedding]
    words: SparseWords | None
    manifest: dict[str, Any]
    place: str

    def run(self, session: QdrantSession, store: PassageStore, show_progress: bool) -> None:
        """Put the store's passages into a collection, and the alias on it. RetrievalError for whatever
        forbids it."""
        if self.settings.payload.id is None:
            raise RetrievalError(
                f"{self.place}: retriever.payload.id: null, and passages would lose their ids: name a field"
            )
        name, size = filled_collection(self.settings.collection, self.manifest), self.settings.batch_size
        mean_length = 1.0 if self.words is None else self.words.mean_length(store.rows())
        done = session.run(partial(self._begin, name=name))
        starts = range(done // size * size, len(store), size)
        for start in track(starts, "filling", total=len(starts), shown=show_progress):
            points = self._points(list(store.rows(start, start + size)), mean_length)
            session.run(partial(_write, name=name, points=points))
        session.run(partial(_swap, alias=self.settings.collection, name=name))

    def _begin(self, client: QdrantClient, name: str) -> int:
        """Make the collection beside, and return how many points it has already."""
        alias = self.settings.collection
        if target_of(client, alias) is not None and manifest_of(client, alias) is None:
            raise RetrievalError(
                f"{self.place}: retriever.collection: `ragdro index` did not make this collection, and does"
                " not replace it: name another one, or search it as it is"
            )
        if client.collection_exists(name) and written_manifest(client, name) == self.manifest:
            return int(client.count(name, exact=True).count)
        client.delete_collection(name)
        dense, sparse = self._parameters()
        client.create_collection(
            name, vectors_config=dense, sparse_vectors_config=sparse, metadata=as_metadata(self.manifest)
        )
        if written_manifest(client, name) != self.manifest:
            client.delete_collection(name)
            raise RetrievalError(
                f"{self.place}: this server keeps no metadata of collections: Qdrant 1.16 or newer does"
            )
        return 0

    def _parameters(self) -> tuple[dict[str, models.VectorParams], dict[str, models.SparseVectorParams]]:
        dense, sparse = {}, {}
        max_sim = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
        for key, embedding in self.embeddings.items():
            vectors = getattr(self.settings, key)
            is_multi = key == "multi"
            dense[vectors.name] = models.VectorParams(
                size=len(embedding.probe),
                distance=models.Distance.COSINE if is_multi or vectors.normalise else models.Distance.DOT,
                multivector_config=max_sim if is_multi else None,
            )
        if self.settings.sparse is not None:
            parameters = models.SparseVectorParams(modifier=models.Modifier.IDF)
            sparse[self.settings.sparse.name] = parameters
        return dense, sparse

    def _points(self, passages: Sequence[Passage], mean_length: float) -> list[models.PointStruct]:
        vectors: list[dict[str, Any]] = [{} for _ in passages]
        if self.settings.sparse is not None and self.words is not None:
            for of_point, passage in zip(vectors, passages, strict=True):
                weights = self.words.of_passage(passage, mean_length)
                sparse = models.SparseVector(indices=[*weights], values=[*weights.values()])
                of_point[self.settings.sparse.name] = sparse
        for key, embedding in self.embeddings.items():
            for of_point, vector in zip(vectors, embedding.of_passages(passages), strict=True):
                of_point[getattr(self.settings, key).name] = vector.tolist()
        return [
            models.PointStruct(id=point_id(passage.id), vector=of_point, payload=self._payload(passage))
            for passage, of_point in zip(passages, vectors, strict=True)
        ]

    def _payload(self, passage: Passage) -> dict[str, Any]:
        names = self.settings.payload
        if names.title is None and passage.title:
            raise RetrievalError(
                f"{self.place}: retriever.payload.title: null, and passage {passage.id!r} has a title"
            )
        assert names.id is not None
        payload: dict[str, Any] = {names.text: passage.text, names.id: passage.id}
        if names.title is not None:
            payload[names.title] = passage.title
        if names.source is not None and passage.source is not None:
            payload[names.source] = source_object(passage.source)
        return payload


def _write(client: QdrantClient, name: str, points: list[models.PointStruct]) -> None:
    client.upsert(name, points, wait=True)


def _swap(client: QdrantClient, alias: str, name: str) -> None:
    """The alias names the new collection; the others of its fills are removed."""
    if target_of(client, alias) != name:
        operations: list[Any] = []
        if target_of(client, alias) is not None:
            operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        made = models.CreateAlias(collection_name=name, alias_name=alias)
        operations.append(models.CreateAliasOperation(create_alias=made))
        client.update_collection_aliases(operations)
    for other in fills_of(client, alias):
        if other != name:
            client.delete_collection(other)
