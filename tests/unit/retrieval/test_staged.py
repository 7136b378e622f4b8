"""Vectors behind a first stage: exact over what it finds, against exact search; each passage encoded once."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")

from ragdro.config.retriever import parse_settings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval import embedding, make_retriever, open_retriever
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.cache import cached_candidates
from ragdro.types import Candidates, Passage, Question
from tests.unit.retrieval.test_cache import write_corpus

pytestmark = pytest.mark.slow

BM25 = {"kind": "bm25", "stopwords": None}


@pytest.fixture(params=["dense", "colbert"])
def scorer(request: pytest.FixtureRequest, random_bert: Path, random_colbert: Path) -> dict[str, Any]:
    folder = random_bert if request.param == "dense" else random_colbert
    return {"kind": request.param, "model": str(folder), "device": "cpu"}


def built(
    corpus: Sequence[Passage], folder: Path, values: dict[str, Any], shared: Path | None = None
) -> Retriever[Any]:
    retriever = make_retriever(parse_settings(values))
    if shared is not None:
        retriever.share(shared)
    retriever.build(corpus, folder)
    retriever.open(folder)
    return retriever


def scores_of(candidates: Candidates) -> dict[str, float]:
    assert candidates.scores is not None
    return {p.id: score for p, score in zip(candidates.passages, candidates.scores, strict=True)}


def test_a_first_stage_that_finds_all_gives_the_exact_search(
    scorer: dict[str, Any], corpus: list[Passage], questions: list[Question], tmp_path: Path
) -> None:
    exact = list(built(corpus, tmp_path / "exact", scorer).search(questions, 10))
    staged = built(corpus, tmp_path / "staged", {**scorer, "first_stage": {**BM25, "top": 60}})
    for one, other in zip(exact, staged.search(questions, 10), strict=True):
        assert other.scores == pytest.approx(one.scores, abs=2e-3)
        assert len({p.id for p in one.passages} & {p.id for p in other.passages}) >= 9  # ties may differ


@pytest.mark.parametrize("stage", ["bm25", "dense"])
def test_only_what_the_first_stage_finds_is_scored_and_all_of_it(
    stage: str,
    corpus: list[Passage],
    questions: list[Question],
    random_bert: Path,
    random_colbert: Path,
    tmp_path: Path,
) -> None:
    scorer = {"kind": "colbert", "model": str(random_colbert), "device": "cpu"}
    first = BM25 if stage == "bm25" else {"kind": "dense", "model": str(random_bert), "device": "cpu"}
    found = list(built(corpus, tmp_path / "first", first).search(questions, 7))
    exact = list(built(corpus, tmp_path / "exact", scorer).search(questions, len(corpus)))
    for top, top_n in ((7, 4), (3, 7)):  # at least top_n are taken
        staged = built(corpus, tmp_path / f"{top}", {**scorer, "first_stage": {**first, "top": top}})
        for by_first, by_all, got in zip(found, exact, staged.search(questions, top_n), strict=True):
            score = scores_of(by_all)
            expected = sorted((score[p.id] for p in by_first.passages), reverse=True)[:top_n]
            assert got.scores == pytest.approx(expected, abs=2e-3)
            assert {p.id for p in got.passages} <= {p.id for p in by_first.passages}


def test_a_passage_is_encoded_once_whatever_it_comes_with(
    scorer: dict[str, Any],
    corpus: list[Passage],
    questions: list[Question],
    encoded: list[str],
    tmp_path: Path,
) -> None:
    settings = parse_settings({**scorer, "first_stage": {**BM25, "top": 6}})
    first, second = tmp_path / "corpus.jsonl", tmp_path / "longer.jsonl"
    write_corpus(first, corpus)
    new = Passage("new", "", " ".join(q.question for q in questions))  # found for every question
    write_corpus(second, [new, *corpus])
    cache = tmp_path / "cache"
    found = cached_candidates(questions, first, settings, 3, cache)
    assert 6 <= len(encoded) < len(corpus) and len(set(encoded)) == len(encoded)
    before = len(encoded)
    again = [Question(f"{q.id}-again", q.question, ()) for q in questions]
    assert [c.passages for c in cached_candidates(again, first, settings, 3, cache)] == [
        c.passages for c in found
    ]
    assert len(encoded) == before
    longer = cached_candidates(questions, second, settings, 3, cache)
    assert len(set(encoded)) == len(encoded) and new.text in encoded[before:]
    assert len(longer) == len(questions)
    assert len(list((cache / "vectors").glob("*.sqlite"))) == 1
    other = parse_settings({**scorer, "passage_prompt": "river ", "first_stage": {**BM25, "top": 6}})
    cached_candidates(questions, first, other, 3, cache)
    assert len(encoded) == len(set(encoded)) + before  # another prompt, other vectors
    assert len(list((cache / "vectors").glob("*.sqlite"))) == 2


def test_a_member_of_a_fusion_may_have_a_first_stage(
    corpus: list[Passage], questions: list[Question], encoded: list[str], random_bert: Path, tmp_path: Path
) -> None:
    """Fused with nothing else it is what it is alone, and encodes no passage again."""
    staged = {"kind": "dense", "model": str(random_bert), "device": "cpu", "first_stage": {**BM25, "top": 5}}
    write_corpus(tmp_path / "corpus.jsonl", corpus)
    cache = tmp_path / "cache"
    alone, fused = (
        cached_candidates(questions, tmp_path / "corpus.jsonl", parse_settings(values), 5, cache)
        for values in (staged, {"kind": "hybrid", "members": [staged], "depth": 5})
    )
    assert [c.passages for c in fused] == [c.passages for c in alone]
    assert len(encoded) == len(set(encoded)) < len(corpus)
    assert [p.parent for p in cache.rglob("*.sqlite")] == [cache / "vectors"]


def test_without_a_cache_the_same_is_found_and_nothing_kept(
    scorer: dict[str, Any],
    corpus: list[Passage],
    questions: list[Question],
    encoded: list[str],
    tmp_path: Path,
) -> None:
    stage = {**BM25, "top": 6}
    kept = built(corpus, tmp_path / "kept", {**scorer, "first_stage": stage})
    bare = built(corpus, tmp_path / "bare", {**scorer, "first_stage": {**stage, "cache_gb": 0}})
    expected = list(kept.search(questions, 4))
    assert list(kept.search(questions, 4)) == expected
    before = len(encoded)
    for turn in (1, 2):
        assert [c.passages for c in bare.search(questions, 4)] == [c.passages for c in expected]
        assert len(encoded) >= before + turn * 6
    assert not (tmp_path / "bare" / "vectors").exists()
    reopened = open_retriever(tmp_path / "kept")
    assert list(reopened.search(questions, 4)) == expected


def test_vectors_of_other_weights_are_not_taken(
    corpus: list[Passage],
    questions: list[Question],
    random_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch
    from transformers import BertModel

    monkeypatch.setattr(embedding, "model_fingerprint", lambda name: name)  # as a hub's name is its own
    model = tmp_path / "model"
    shutil.copytree(random_bert, model)
    values = {"kind": "dense", "model": str(model), "device": "cpu", "first_stage": {**BM25, "top": 6}}
    retriever = built(corpus, tmp_path / "index", values, tmp_path / "cache")
    list(retriever.search(questions, 3))
    torch.manual_seed(7)
    BertModel(BertModel.from_pretrained(model).config).save_pretrained(model)
    changed = make_retriever(parse_settings(values))
    changed.share(tmp_path / "cache")
    changed.open(tmp_path / "index")
    with pytest.raises(RetrievalError, match=r"other weights now .*; remove .*/cache/vectors/\w+\.\*"):
        list(changed.search(questions, 3))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"kind": "dense", "index": {"type": "hnsw"}, "first_stage": {"kind": "bm25"}},
            "index: hnsw and first_stage do not go together",
        ),
        (
            {"kind": "colbert", "index": {"type": "lance"}, "first_stage": {"kind": "bm25"}},
            "index: lance and first_stage do not go together",
        ),
        (
            {"kind": "dense", "first_stage": {"kind": "dense", "model": "m"}},
            r"first_stage.model: the same as model \(m\)",
        ),
        (
            {"kind": "dense", "first_stage": {"kind": "colbert", "model": "m"}},
            "must be bm25 or dense",
        ),
        (
            {"kind": "dense", "first_stage": {"kind": "bm25", "top": 0}},
            r"top: must be at least 1",
        ),
        (
            {"kind": "dense", "first_stage": {"kind": "bm25", "first_stage": {"kind": "bm25"}}},
            r"unknown key .retriever\.first_stage\.first_stage",
        ),
    ],
)
def test_stages_that_make_no_sense_are_refused_by_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings({"model": "m", **values})


def test_scores_are_of_float16_vectors(
    corpus: list[Passage], questions: list[Question], random_bert: Path, tmp_path: Path
) -> None:
    """The same from the cache as when just encoded."""
    values = {"kind": "dense", "model": str(random_bert), "device": "cpu", "first_stage": {**BM25, "top": 60}}
    retriever = built(corpus, tmp_path / "index", values)
    (first,) = retriever.search(questions[:1], 60)
    (second,) = retriever.search(questions[:1], 60)
    assert first == second
    assert np.unique(first.scores).size > 20
