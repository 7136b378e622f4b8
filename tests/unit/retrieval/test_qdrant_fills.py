"""Fills of a Qdrant collection that are killed, resumed and take the place of older ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from ragdro.errors import RetrievalError
from tests.unit.retrieval.conftest import generated_corpus
from tests.unit.retrieval.test_qdrant import filled, made


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture
def killed_in_third_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The points that reached the collection, in batches; the third is never written, the first time."""
    written: list[int] = []
    from ragdro.retrieval import qdrant_fill

    write: Callable[..., None] = qdrant_fill._write

    def counting(client: QdrantClient, name: str, points: list[Any]) -> None:
        if len(written) == 2:
            written.append(0)
            raise Killed
        write(client, name, points)
        written.append(len(points))

    monkeypatch.setattr(qdrant_fill, "_write", counting)
    yield written


def test_a_fill_that_is_killed_shows_nothing_and_resumes(
    tmp_path: Path, killed_in_third_batch: list[int]
) -> None:
    where = {"path": str(tmp_path / "qdrant"), "batch_size": 10}
    with pytest.raises(Killed):
        made(**where).fill(generated_corpus(35), tmp_path / "f", "one")
    with pytest.raises(RetrievalError, match=r"retriever.collection: there is no such collection"):
        made(**where).check()
    retriever = made(**where)
    assert retriever.fill(generated_corpus(35), tmp_path / "f", "one") == 35
    assert killed_in_third_batch == [10, 10, 0, 10, 5]
    assert {p.id for p in retriever.passages()} == {p.id for p in generated_corpus(35)}
    assert made(**where).fill(iter(()), tmp_path / "f", "one") == 35  # it is there: nothing is read
    with pytest.raises(RetrievalError, match="filled from another corpus"):
        retriever.check_corpus("two")


def test_a_new_fill_takes_the_place_of_the_old_one_when_it_is_whole(
    tmp_path: Path, killed_in_third_batch: list[int]
) -> None:
    retriever = filled(tmp_path, generated_corpus(7), batch_size=7)
    where = {"path": str(tmp_path / "qdrant"), "batch_size": 10}
    with pytest.raises(Killed):
        made(path=where["path"], batch_size=2).fill(generated_corpus(35, seed=1), tmp_path / "g", "two")
    assert made(**where).check() == 7
    assert retriever.fill(generated_corpus(12, seed=2), tmp_path / "h", "three") == 12
    del retriever
    client = QdrantClient(path=str(where["path"]))
    assert len(client.get_collections().collections) == 1  # neither the old one nor the half one is left
    client.close()
