"""What would be lost or turned round in a collection of Qdrant: distances, ids, titles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float32
from qdrant_client import QdrantClient, models

from ragdro.errors import RetrievalError
from ragdro.retrieval.embedding import Embedding
from ragdro.types import Passage, Question
from tests.unit.retrieval.test_qdrant import filled, made

PLACES = {"far": 3.0, "near": 0.2, "middle": 1.5, "there": 0.0}


class OneNumber(Embedding):
    """An encoder that puts every question at 0.1."""

    @cached_property
    def probe(self) -> list[float]:
        return [0.0]

    def of_questions(self, texts: Sequence[str]) -> list[Float32[np.ndarray, " width"]]:
        return [np.array([0.1], np.float32) for _ in texts]


@pytest.mark.parametrize("distance", [models.Distance.EUCLID, models.Distance.MANHATTAN])
def test_the_nearest_comes_first_where_vectors_are_compared_by_a_distance(
    distance: models.Distance, tmp_path: Path
) -> None:
    client = QdrantClient(path=str(tmp_path / "theirs"))
    client.create_collection("docs", vectors_config=models.VectorParams(size=1, distance=distance))
    points = [
        models.PointStruct(id=i, vector=[place], payload={"id": name, "text": name})
        for i, (name, place) in enumerate(PLACES.items())
    ]
    client.upsert("docs", points)
    client.close()
    dense: dict[str, Any] = {"model": "any", "name": ""}
    retriever: Any = made(path=str(tmp_path / "theirs"), collection="docs", sparse=None, dense=dense)
    retriever.embeddings = {"dense": OneNumber(retriever.settings.dense)}
    (found,) = retriever.search([Question("q", "where?", ())], 3)
    expected = sorted(PLACES, key=lambda name: (abs(PLACES[name] - 0.1), name))[:3]
    assert [passage.id for passage in found.passages] == expected == ["near", "there", "middle"]
    assert found.scores == pytest.approx([-abs(PLACES[name] - 0.1) for name in expected], abs=1e-6)


@pytest.mark.parametrize("lost", ["id", "title"])
def test_a_fill_that_would_lose_ids_or_titles_is_refused(lost: str, tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=rf"retriever\.payload\.{lost}: null, and passage"):
        filled(tmp_path, [Passage("a", "A title", "the river")], payload={lost: None})
