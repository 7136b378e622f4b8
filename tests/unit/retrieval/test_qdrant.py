"""Passages in the real Qdrant, embedded: BM25, cosine and MaxSim against plain Python and numpy, fills that
are killed, folders and collections that are wrong, and a stand-in of its server that goes away."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from ragdro.config.retriever import parse_settings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.database import DatabaseRetriever
from ragdro.retrieval.hybrid import fuse
from ragdro.retrieval.sparse import SparseWords
from ragdro.types import Passage, PassageSource, Question
from tests.unit.retrieval.conftest import generated_corpus, generated_questions
from tests.unit.retrieval.qdrant_server import QdrantServer

QUICK = {"retries": 2, "backoff_seconds": 0.01, "timeout_seconds": 5.0}


def made(**values: Any) -> DatabaseRetriever[Any]:
    retriever = make_retriever(parse_settings({"kind": "qdrant", **QUICK, **values}))
    assert isinstance(retriever, DatabaseRetriever)
    return retriever


def filled(folder: Path, passages: list[Passage], **values: Any) -> DatabaseRetriever[Any]:
    retriever = made(path=str(folder / "qdrant"), **values)
    assert retriever.fill(passages, folder / "filling", "a corpus") == len(passages)
    return retriever


def search(retriever: DatabaseRetriever[Any], question: str, top_n: int = 10) -> list[str]:
    (found,) = retriever.search([Question("q", question, ())], top_n)
    return [passage.id for passage in found.passages]


def test_words_are_ranked_by_bm25(tmp_path: Path) -> None:
    """Against the formula, word by word, in plain Python."""
    corpus, k1, b = generated_corpus(60), 0.9, 0.4
    retriever = filled(tmp_path, corpus, sparse={"k1": k1, "b": b}, batch_size=7)
    rules = SparseWords(retriever.settings.sparse)._rules
    documents = [Counter(rules.of(f"{p.title} {p.text}")) for p in corpus]
    mean = sum(d.total() for d in documents) / len(documents)
    for found, question in zip(
        retriever.search(generated_questions(9), 8), generated_questions(9), strict=True
    ):
        scores = {}
        for passage, document in zip(corpus, documents, strict=True):
            score = 0.0
            for word in set(rules.of(question.question)) & set(document):
                having = sum(word in d for d in documents)
                idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
                floor = k1 * (1 - b + b * document.total() / mean)
                score += idf * document[word] * (k1 + 1) / (document[word] + floor)
            scores[passage.id] = score
        assert found.scores == pytest.approx(sorted(scores.values(), reverse=True)[:8], rel=1e-5)
        assert [scores[p.id] for p in found.passages] == pytest.approx(found.scores, rel=1e-5)


@pytest.mark.slow
def test_vectors_and_token_vectors_are_ranked_as_numpy_does(
    tmp_path: Path, random_bert: Path, random_colbert: Path
) -> None:
    from sentence_transformers import MultiVectorEncoder

    from tests.unit.retrieval.test_dense import by_hand

    corpus, questions = generated_corpus(40), generated_questions(6)
    texts, asked = [f"{p.title} {p.text}" for p in corpus], [q.question for q in questions]
    dense = {"model": str(random_bert), "device": "cpu"}
    multi = {"model": str(random_colbert), "device": "cpu"}
    filled(tmp_path, corpus, dense=dense, multi=multi)
    where = {"path": str(tmp_path / "qdrant"), "depth": 20}

    encoder = MultiVectorEncoder(str(random_colbert), device="cpu")
    of_passages, of_questions = encoder.encode_document(texts), encoder.encode_query(asked)
    max_sim = [[float((np.array(q) @ np.array(p).T).max(1).sum()) for p in of_passages] for q in of_questions]
    cosine = by_hand(random_bert, asked) @ by_hand(random_bert, texts).T
    rankings = {}
    for key, products in (("dense", cosine), ("multi", np.array(max_sim))):
        only = made(**where, sparse=None, **{key: dense if key == "dense" else multi})
        rankings[key] = list(only.search(questions, 20))
        for row, found in zip(products, rankings[key], strict=True):
            score = {passage.id: row[i] for i, passage in enumerate(corpus)}
            assert found.scores == pytest.approx(np.sort(row)[::-1][:20].tolist(), abs=1e-3)
            assert [score[p.id] for p in found.passages] == pytest.approx(found.scores, abs=1e-3)
    words = list(made(**where).search(questions, 20))
    fused = made(**where, dense=dense, multi={**multi, "weight": 0.5}).search(questions, 5)
    for *of_each, found in zip(words, rankings["dense"], rankings["multi"], fused, strict=True):
        assert found == fuse(of_each, [1.0, 1.0, 0.5], 60.0, 5)


@pytest.mark.slow
def test_collections_of_somebody_else_s_are_searched_by_their_names(
    tmp_path: Path, random_bert: Path
) -> None:
    from tests.unit.retrieval.test_dense import by_hand

    texts = ["the river", "a castle", "wooden bridge"]
    client = QdrantClient(path=str(tmp_path / "theirs"))
    cosine = models.VectorParams(size=32, distance=models.Distance.COSINE)
    client.create_collection("docs", vectors_config=cosine)
    for i, (text, vector) in enumerate(zip(texts, by_hand(random_bert, texts), strict=True)):
        payload = {"page_content": text, "metadata": {"source": f"{i}.html", "name": i}}
        client.upsert("docs", [models.PointStruct(id=i, vector=vector.tolist(), payload=payload)])
    client.close()
    theirs = {"path": str(tmp_path / "theirs"), "collection": "docs", "sparse": None}
    names = {"id": None, "title": "metadata.name", "text": "page_content", "source": "metadata.source"}
    dense = {"model": str(random_bert), "device": "cpu", "name": ""}
    retriever = made(**theirs, payload=names, dense=dense)
    (found,) = retriever.search([Question("q", "wooden bridge", ())], 1)
    source = PassageSource("2.html", 0, 13)
    assert found.passages == (Passage("2", "2", "wooden bridge", source=source),)
    assert found.scores == pytest.approx([1.0], abs=1e-4)
    assert not retriever.is_cacheable() and len(list(retriever.passages())) == 3
    with pytest.raises(RetrievalError, match=r"dense.name: there is no dense vector 'x'; there are: ''"):
        made(**theirs, dense={**dense, "name": "x"}).check()
    with pytest.raises(RetrievalError, match=r"retriever.multi.name: there is no multi vector 'multi'"):
        made(**theirs, multi={"model": "m"}).check()
    with pytest.raises(RetrievalError, match=r"retriever.sparse: `ragdro index` did not fill"):
        made(**{**theirs, "sparse": {}}, dense=dense).check()
    with pytest.raises(RetrievalError, match=r"payload.text: point \d has no text 'text'; it has page"):
        search(made(**theirs, payload={**names, "text": "text"}, dense=dense), "river")
    with pytest.raises(RetrievalError, match=r"payload.id: point \d has no 'id'"):
        search(made(**theirs, payload={**names, "id": "id"}, dense=dense), "river")
    with pytest.raises(RetrievalError, match=r"collection: `ragdro index` did not make this"):
        made(**{**theirs, "sparse": {}}).fill(generated_corpus(3), tmp_path / "f", "x")


@pytest.mark.slow
def test_vectors_of_another_width_are_refused(
    tmp_path: Path, random_bert: Path, random_colbert: Path
) -> None:
    filled(tmp_path, generated_corpus(5), dense={"model": str(random_bert), "device": "cpu"})
    client = QdrantClient(path=str(tmp_path / "other"))
    client.create_collection("c", vectors_config={"dense": models.VectorParams(size=3, distance="Cosine")})
    point = models.PointStruct(id=1, vector={"dense": [1.0, 0.0, 0.0]}, payload={"id": "a", "text": "river"})
    client.upsert("c", [point])
    client.close()
    dense = {"model": str(random_bert), "device": "cpu"}
    retriever = made(path=str(tmp_path / "other"), collection="c", sparse=None, dense=dense)
    with pytest.raises(RetrievalError, match=r"dense.model: .* has vectors of 3 numbers, .* gives 32"):
        search(retriever, "river")
    # A collection of ours, and another model than it was filled with.
    colbert = {"dense": {**dense, "model": str(random_colbert)}}
    with pytest.raises(RetrievalError, match=r"filled with other settings \(retriever.dense: .*'model'"):
        search(made(path=str(tmp_path / "qdrant"), **colbert), "river")


def test_a_question_that_is_a_passage_is_not_its_own_candidate(tmp_path: Path) -> None:
    corpus = generated_corpus(10)
    retriever = filled(tmp_path, corpus)
    (found,) = retriever.search([Question("p3", corpus[3].text, ())], 10)
    assert "p3" not in {p.id for p in found.passages} and len(found.passages) <= 9


def test_what_is_not_there_or_of_others_is_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"either path .* or url .* has to be given"):
        made()
    with pytest.raises(ConfigError, match=r"api_key: must be \$NAME, .*the value") as refused:
        made(url="http://localhost:1", api_key="S3cret")
    assert "S3cret" not in str(refused.value)
    with pytest.raises(RetrievalError, match=r"retriever.path\): there is no such folder"):
        search(made(path=str(tmp_path / "none")), "river")
    assert not (tmp_path / "none").exists()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("mine")
    with pytest.raises(RetrievalError, match=r"retriever.path\): no folder of Qdrant's, and not empty"):
        made(path=str(tmp_path / "papers")).fill(generated_corpus(3), tmp_path / "f", "x")
    client = QdrantClient(path=str(tmp_path / "empty"))
    client.create_collection("passages", vectors_config={}, sparse_vectors_config={})
    client.close()
    with pytest.raises(RetrievalError, match=r"retriever.sparse: `ragdro index` did not fill"):
        made(path=str(tmp_path / "empty")).check()


def test_a_folder_that_another_process_has_open_is_waited_for_and_then_named(tmp_path: Path) -> None:
    filled(tmp_path, generated_corpus(3))
    program = (
        "import sys; from qdrant_client import QdrantClient; c = QdrantClient(path=sys.argv[1]);"
        "print('open', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "qdrant")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(RetrievalError, match="gave up after 3 tries: another process has the folder"):
            made(path=str(tmp_path / "qdrant")).check()
        other.communicate()
    assert made(path=str(tmp_path / "qdrant")).check() == 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantServer]:
    served = QdrantServer(tmp_path / "served", key="S3cret")
    served.start()
    yield served
    served.close()


def test_a_server_is_filled_and_searched_like_a_folder(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_KEY", "S3cret")
    served = made(url=server.url, api_key="$QDRANT_KEY", batch_size=17)
    assert served.fill(generated_corpus(60), tmp_path / "f", "x") == 60
    questions = generated_questions(9)
    embedded = filled(tmp_path, generated_corpus(60))
    assert list(served.search(questions, 5)) == list(embedded.search(questions, 5))
    assert "S3cret" not in f"{served.place} {served.settings}"
    monkeypatch.setenv("QDRANT_KEY", "wrong")
    with pytest.raises(RetrievalError, match=r"Qdrant at http://.*: status 401: .* \(retriever.api_key\)"):
        made(url=server.url, api_key="$QDRANT_KEY").check()
    monkeypatch.delenv("QDRANT_KEY")
    with pytest.raises(RetrievalError, match=r"retriever.api_key: \$QDRANT_KEY is not set"):
        made(url=server.url, api_key="$QDRANT_KEY")


def test_a_server_that_goes_away_is_waited_for_and_then_named(
    server: QdrantServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QDRANT_KEY", "S3cret")
    patient = {"url": server.url, "api_key": "$QDRANT_KEY", "retries": 8, "backoff_seconds": 0.05}
    retriever = made(**patient)
    retriever.fill(generated_corpus(60), tmp_path / "f", "x")
    questions = generated_questions(200)
    whole = list(retriever.search(questions, 3))
    found = retriever.search(questions, 3)
    begun = [next(found)]
    server.stop()
    starter = threading.Timer(0.4, server.start)
    starter.start()
    assert begun + list(found) == whole
    starter.join()
    server.failures = 2  # with 503
    assert made(**patient).check() == 60 and server.failures == 0
    server.stop()
    with pytest.raises(RetrievalError, match=r"Qdrant at http://.* \(retriever.url\): gave up after 3 tries"):
        made(url=server.url, api_key="$QDRANT_KEY").check()
