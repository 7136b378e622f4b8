"""Builds of dense indexes that are killed and resumed, and indexes that are opened again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")

from ragdro.config.indexes import IvfPqIndex, PqIndex
from ragdro.config.retriever import DenseSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval import open_retriever
from ragdro.retrieval.dense import DenseRetriever
from ragdro.retrieval.encoders import encode_texts
from ragdro.types import Passage, Question
from tests.unit.retrieval.conftest import generated_corpus, generated_questions, killed_after
from tests.unit.retrieval.test_dense import built, by_hand

pytestmark = pytest.mark.slow


def test_a_killed_build_encodes_only_what_is_missing(
    corpus: list[Passage],
    questions: list[Question],
    random_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings, folder = DenseSettings(model=str(random_bert), device="cpu", shard_size=20), tmp_path / "index"
    expected = list(built(corpus, tmp_path / "plain", settings).search(questions, 5))
    encoded: list[int] = []

    def counted(
        method: Callable[..., Any], texts: Sequence[str], prompt: str | None, settings: DenseSettings
    ) -> np.ndarray:
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(texts))
        return encode_texts(method, texts, prompt, settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ragdro.retrieval.dense.encode_texts", counted)
        DenseRetriever(settings).build(corpus, folder, corpus_key="c")
    encoded.clear()
    retriever = DenseRetriever(settings)
    with monkeypatch.context() as patch:
        patch.setattr("ragdro.retrieval.dense.encode_texts", counted)
        retriever.build(killed_after(corpus, 0), folder, corpus_key="c")
    assert encoded == [20]
    retriever.open(folder)
    assert list(retriever.search(questions, 5)) == expected
    assert not (folder / "dense-shards").exists()


@pytest.mark.parametrize(
    ("index", "factory"),
    [
        (IvfPqIndex(lists=4, probes=2, code_bytes=8, training_passages=260), "IVF4,PQ8np"),
        (PqIndex(numbers_per_code=2), "PQ16x4fs"),
    ],
    ids=["lists", "codes"],
)
def test_an_index_is_filled_part_by_part_as_faiss_fills_it_at_once(
    index: IvfPqIndex | PqIndex,
    factory: str,
    random_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed on the way as well; no passage is encoded twice, those that it is trained on included."""
    import faiss

    monkeypatch.setattr(PqIndex, "training_passages", 260)
    corpus, questions = generated_corpus(300), generated_questions(10)
    settings = DenseSettings(model=str(random_bert), device="cpu", shard_size=70, index=index)
    vectors = by_hand(random_bert, [f"{p.title} {p.text}" for p in corpus])
    whole: Any = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    whole.train(vectors[np.unique(np.linspace(0, 299, 260).astype(np.int64))])
    whole.add(vectors)
    if isinstance(index, IvfPqIndex):
        whole.nprobe = index.probes
    scores, _ = whole.search(by_hand(random_bert, [q.question for q in questions]), 10)
    encoded: list[str] = []

    def counted(method: Callable[..., Any], texts: Sequence[str], *rest: Any) -> np.ndarray:
        if method.__name__ == "encode_document":
            if stops and len(encoded) >= stops[0]:
                del stops[0]
                raise KeyboardInterrupt
            encoded.extend(texts)
        return encode_texts(method, texts, *rest)

    monkeypatch.setattr("ragdro.retrieval.dense.encode_texts", counted)
    stops = [140, 260, 275]  # in the sample, before and within what is not in it
    retriever = DenseRetriever(settings)
    while stops:
        with pytest.raises(KeyboardInterrupt):
            retriever.build(corpus, tmp_path / "index", corpus_key="c")
    retriever.build(killed_after(corpus, 0), tmp_path / "index", corpus_key="c")
    assert len(encoded) == 300
    retriever.open(tmp_path / "index")
    for expected, candidates in zip(scores, retriever.search(questions, 10), strict=True):
        assert candidates.scores == pytest.approx(expected.tolist(), abs=1e-3)
    if isinstance(index, IvfPqIndex):
        (tmp_path / "index" / "dense.faiss.ivfdata").unlink()
        with pytest.raises(RetrievalError, match=r"dense\.faiss\.ivfdata: missing, .* build the index again"):
            retriever.open(tmp_path / "index")


def test_a_killed_build_is_resumed_on_another_device_and_not_with_other_parts(
    corpus: list[Passage],
    questions: list[Question],
    random_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = DenseSettings(model=str(random_bert), device="cpu", shard_size=20)
    expected = list(built(corpus, tmp_path / "plain", settings).search(questions, 5))

    def killed(method: Callable[..., Any], texts: Sequence[str], *rest: Any) -> np.ndarray:
        if texts[0].startswith(corpus[40].title):
            raise KeyboardInterrupt
        return encode_texts(method, texts, *rest)

    for name, change, goes_on in (
        ("machine", {"device": None, "encode_batch_size": 7}, True),
        ("parts", {"shard_size": 30}, False),
    ):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("ragdro.retrieval.dense.encode_texts", killed)
            DenseRetriever(settings).build(corpus, tmp_path / name, corpus_key="c")
        retriever = DenseRetriever(settings.model_copy(update=change))
        passages: Any = killed_after(corpus, 0) if goes_on else corpus
        retriever.build(passages, tmp_path / name, corpus_key="c")
        retriever.open(tmp_path / name)
        found = list(retriever.search(questions, 5))
        assert [c.passages for c in found] == [c.passages for c in expected]


def test_an_index_opens_from_any_folder_and_however_it_is_looked_into(
    questions: list[Question],
    random_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(random_bert, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    index = IvfPqIndex(lists=4, probes=1, code_bytes=8)
    near = built(generated_corpus(300), tmp_path / "index", DenseSettings(model="model", index=index))
    few = list(near.search(questions, 3))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    reopened = open_retriever(tmp_path / "index")
    assert list(reopened.search(questions, 3)) == few
    further = DenseSettings(model="../model", index=index.model_copy(update={"probes": 4}), device="cpu")
    wide = DenseRetriever(further)
    wide.open(tmp_path / "index")
    assert [c.passages for c in wide.search(questions, 3)] != [c.passages for c in few]
    with pytest.raises(RetrievalError, match=r"other settings \(index: .*code_bytes.*build the index again"):
        DenseRetriever(further.model_copy(update={"index": index.model_copy(update={"code_bytes": 4})})).open(
            tmp_path / "index"
        )


def test_an_index_does_not_open_with_other_weights(
    corpus: list[Passage], random_bert: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import BertModel

    model = tmp_path / "model"
    shutil.copytree(random_bert, model)
    settings = DenseSettings(model=str(model), device="cpu")
    before = DenseRetriever(settings).fingerprint()
    built(corpus, tmp_path / "index", settings)
    torch.manual_seed(7)
    BertModel(BertModel.from_pretrained(model).config).save_pretrained(model)
    assert DenseRetriever(settings).fingerprint() != before
    with pytest.raises(RetrievalError, match="built with other weights"):
        DenseRetriever(settings).open(tmp_path / "index")
