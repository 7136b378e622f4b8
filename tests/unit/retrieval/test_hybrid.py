"""Reciprocal-rank fusion by hand, and over real members with one passage store."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.config.retriever import Bm25Settings, ExternalSettings, HybridSettings, TrecRun
from ragdro.errors import RetrievalError
from ragdro.retrieval import make_retriever, open_retriever
from ragdro.retrieval.hybrid import fuse
from ragdro.types import Candidates, Passage, Question


def ranking(ids: str) -> Candidates:
    return Candidates("q", tuple(Passage(name, name.upper(), "") for name in ids))


def test_fused_scores_by_hand() -> None:
    fused = fuse([ranking("abc"), ranking("cd")], (1.0, 1.0), 60.0, 10)
    by_hand = {"c": 1 / 63 + 1 / 61, "a": 1 / 61, "b": 1 / 62, "d": 1 / 62}
    assert "".join(p.id for p in fused.passages) == "cabd"  # b before d: equal, and b was seen first
    assert fused.scores == pytest.approx([by_hand[p.id] for p in fused.passages], rel=1e-12)


def test_weights_and_constant_by_hand() -> None:
    fused = fuse([ranking("ab"), ranking("ba")], (1.0, 3.0), 0.0, 2)
    assert [p.id for p in fused.passages] == ["b", "a"]
    assert fused.scores == pytest.approx([1 / 2 + 3, 1 + 3 / 2])
    assert fuse([ranking("ab"), ranking("ba")], (1.0, 3.0), 0.0, 1).scores == pytest.approx([3.5])


def test_members_share_the_store_and_a_run_file_may_be_one(
    corpus: list[Passage], questions: list[Question], tmp_path: Path
) -> None:
    run = tmp_path / "run.trec"
    order = [f"p{i}" for i in range(59, -1, -1)]
    run.write_text(
        "".join(
            f"{q.id} Q0 {name} {rank} {100 - rank} t\n"
            for q in questions
            for rank, name in enumerate(order, 1)
        )
    )
    bm25 = Bm25Settings()
    settings = HybridSettings(members=(bm25, ExternalSettings(source=TrecRun(path=run))), depth=30)
    retriever = make_retriever(settings)
    retriever.build(corpus, tmp_path / "index")
    assert len(list((tmp_path / "index").rglob("passages.jsonl"))) == 1
    retriever = open_retriever(tmp_path / "index")
    alone = make_retriever(bm25)
    alone.build(corpus, tmp_path / "bm25")
    alone.open(tmp_path / "bm25")
    by_id = {passage.id: passage for passage in corpus}
    listed = tuple(by_id[name] for name in order[:30])
    for candidates, sparse in zip(retriever.search(questions, 10), alone.search(questions, 30), strict=True):
        expected = fuse([sparse, Candidates("q", listed)], (1.0, 1.0), 60.0, 10)
        assert candidates.passages == expected.passages
        assert candidates.scores == expected.scores


def test_the_depth_is_cut_to_what_the_corpus_has(
    corpus: list[Passage], questions: list[Question], tmp_path: Path
) -> None:
    retriever = make_retriever(HybridSettings(members=(Bm25Settings(), Bm25Settings(k1=0.1)), depth=1000))
    retriever.build(corpus, tmp_path / "index")
    retriever.open(tmp_path / "index")
    assert all(len(candidates.passages) == 60 for candidates in retriever.search(questions, 60))


def test_weights_must_match_the_members() -> None:
    with pytest.raises(RetrievalError, match="2 weights for 1 member"):
        make_retriever(HybridSettings(members=(Bm25Settings(),), weights=(1.0, 2.0)))
