"""What a collection of Qdrant looks like: its manifest, and whether it has what the settings name.

What `ragdro index` fills is a collection `<name>--<hash>`, its manifest in the metadata; the name itself is
an alias of it. A collection that no alias names is unfinished, or of earlier.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from qdrant_client import QdrantClient, models

from ragdro.config.stores import QdrantSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.hashing import hash_values

_IDS = UUID("6f1c1f0e-6d0c-5d5e-9a57-0d2b4c8e7a11")
_MARK = "ragdro index"
_BETWEEN = "--"


def point_id(passage_id: str) -> str:
    """The point of a passage that `ragdro index` writes."""
    return str(uuid5(_IDS, passage_id))


def filled_collection(name: str, manifest: dict[str, Any]) -> str:
    """The collection that this manifest's passages are written to."""
    return f"{name}{_BETWEEN}{hash_values([manifest])[:16]}"


def target_of(client: QdrantClient, name: str) -> str | None:
    """The collection behind a name: that of an alias, or the one of that name; None where there is none."""
    aliases = {alias.alias_name: alias.collection_name for alias in client.get_aliases().aliases}
    if name in aliases:
        return str(aliases[name])
    return name if client.collection_exists(name) else None


def written_manifest(client: QdrantClient, collection: str) -> dict[str, Any] | None:
    """The manifest in a collection's metadata; None where there is none."""
    manifest = (client.get_collection(collection).config.metadata or {}).get(_MARK)
    return dict(manifest) if isinstance(manifest, dict) else None


def as_metadata(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as a collection's metadata."""
    return {_MARK: manifest}


def manifest_of(client: QdrantClient, name: str) -> dict[str, Any] | None:
    """The manifest of a finished fill under this name; None where somebody else filled it, or nobody."""
    target = target_of(client, name)
    return None if target is None or target == name else written_manifest(client, target)


def fills_of(client: QdrantClient, name: str) -> list[str]:
    """All collections that fills of this name wrote or began to write."""
    names = [one.name for one in client.get_collections().collections]
    begun = [one for one in names if one.startswith(f"{name}{_BETWEEN}")]
    return [one for one in begun if written_manifest(client, one) is not None]


def check_collection(client: QdrantClient, settings: QdrantSettings, place: str, *, filled: bool) -> int:
    """How many points there are; RetrievalError names the key of what the collection lacks."""
    if target_of(client, settings.collection) is None:
        there = ", ".join(sorted(one.name for one in client.get_collections().collections)) or "none"
        raise RetrievalError(
            f"{place}: retriever.collection: there is no such collection (there are: {there}): ragdro index"
            " --kind qdrant --corpus ... makes and fills it"
        )
    dense, sparse = _vectors(client, settings.collection)
    if settings.sparse is not None:
        if not filled:
            raise RetrievalError(
                f"{place}: retriever.sparse: `ragdro index` did not fill the collection, and whoever did"
                " numbers words in another way: set sparse to null, and dense or multi to its vectors' model"
            )
        _require(settings.sparse.name, sparse, "sparse", place)
    for key, vectors in (("dense", settings.dense), ("multi", settings.multi)):
        if vectors is None:
            continue
        of_kind = {n: v for n, v in dense.items() if (v.multivector_config is not None) == (key == "multi")}
        _require(vectors.name, of_kind, key, place)
    count = int(client.count(settings.collection, exact=True).count)
    if not count:
        raise RetrievalError(f"{place}: retriever.collection: the collection is empty")
    return count


def vector_width(client: QdrantClient, collection: str, name: str) -> int:
    """How many numbers the vectors of that name have."""
    return int(_vectors(client, collection)[0][name].size)


def is_distance(client: QdrantClient, collection: str, name: str) -> bool:
    """Whether the scores of the vectors of that name are distances: the nearest has the least."""
    vector = _vectors(client, collection)[0].get(name)
    return vector is not None and vector.distance in (models.Distance.EUCLID, models.Distance.MANHATTAN)


def _vectors(
    client: QdrantClient, collection: str
) -> tuple[dict[str, models.VectorParams], dict[str, models.SparseVectorParams]]:
    parameters = client.get_collection(collection).config.params
    vectors = parameters.vectors or {}
    dense = {"": vectors} if isinstance(vectors, models.VectorParams) else dict(vectors)
    return dense, dict(parameters.sparse_vectors or {})


def _require(name: str, there: dict[str, Any], key: str, place: str) -> None:
    if name not in there:
        known = ", ".join(repr(one) for one in there) or "none"
        raise RetrievalError(
            f"{place}: retriever.{key}.name: there is no {key} vector {name!r}; there are: {known}"
        )
