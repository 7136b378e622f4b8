"""What the world "far" promises: one search does not find the second passage, a second one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bm25s
import pytest

from ragdro.data import load_questions
from ragdro.sources import resolve
from ragdro.tiny.far import build_far, write_far
from ragdro.tiny.words import all_names
from ragdro.tiny.world import DemoWorld
from tests.unit.tiny.test_world import share, tokens

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def far() -> DemoWorld:
    return build_far(0)


@pytest.fixture(scope="module")
def bm25(far: DemoWorld) -> bm25s.BM25:
    retriever = bm25s.BM25()
    retriever.index(tokens([f"{p['title']} {p['text']}" for p in far.corpus]), show_progress=False)
    return retriever


def found(bm25: bm25s.BM25, far: DemoWorld, queries: list[str]) -> list[list[str]]:
    """The texts of each query's top 20."""
    rows, _ = bm25.retrieve(tokens(queries), k=20, show_progress=False)
    return [[far.corpus[i]["text"] for i in row] for row in rows]


def of_hops(far: DemoWorld, hops: int, split: str) -> list[dict[str, Any]]:
    return [question for question in far.questions[split] if question["hops"] == hops]


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_search_finds_the_first_passage_and_seldom_the_second(
    far: DemoWorld, bm25: bm25s.BM25, split: str
) -> None:
    two_hop = of_hops(far, 2, split)
    lists = found(bm25, far, [question["question"] for question in two_hop])
    pairs = [[p["text"] for p in question["passages"]] for question in two_hop]
    assert all(first in texts[:8] for (first, _), texts in zip(pairs, lists, strict=True))
    assert share([second in texts for (_, second), texts in zip(pairs, lists, strict=True)]) <= 0.35


@pytest.mark.parametrize("split", SPLITS)
def test_the_teachers_query_finds_the_second_passage(far: DemoWorld, bm25: bm25s.BM25, split: str) -> None:
    two_hop = of_hops(far, 2, split)
    lists = found(bm25, far, [question["queries"][0] for question in two_hop])
    assert all(q["passages"][1]["text"] == texts[0] for q, texts in zip(two_hop, lists, strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_a_one_hop_question_needs_one_search(far: DemoWorld, bm25: bm25s.BM25, split: str) -> None:
    one_hop = of_hops(far, 1, split)
    lists = found(bm25, far, [question["question"] for question in one_hop])
    assert all(q["passages"][0]["text"] == texts[0] for q, texts in zip(one_hop, lists, strict=True))
    assert all(question["queries"] == [] for question in one_hop)


def test_sizes(far: DemoWorld) -> None:
    assert len({p["text"] for p in far.corpus}) == len(far.corpus) == 5040
    assert {split: len(questions) for split, questions in far.questions.items()} == {
        "train": 572,
        "validation": 104,
        "test": 260,
    }
    for questions in far.questions.values():
        assert share([question["hops"] == 2 for question in questions]) == 36 / 52


def test_the_query_is_of_words_that_were_read_or_asked_and_the_question_lacks_the_name(
    far: DemoWorld,
) -> None:
    for question in of_hops(far, 2, "test"):
        name, noun = question["queries"][0].split()
        assert name in question["passages"][0]["text"].split() and name not in question["question"].split()
        assert noun in question["question"].split()


def test_splits_share_no_name(far: DemoWorld) -> None:
    names = set(all_names())
    named = {
        split: {word for q in questions for p in q["passages"] for word in p["text"].split()} & names
        for split, questions in far.questions.items()
    }
    for one, other in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert not named[one] & named[other]


def test_what_comes_with_the_package_is_what_the_seed_makes(far: DemoWorld, tmp_path: Path) -> None:
    write_far(tmp_path, seed=0)
    for name in ("corpus", *SPLITS):
        assert Path(resolve(f"tiny:far-{name}")).read_bytes() == (tmp_path / f"{name}.jsonl").read_bytes()
    assert build_far(1) != far
    record = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0])
    assert load_questions(resolve("tiny:far-test"))[0].queries == tuple(record["queries"])
