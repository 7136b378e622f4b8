"""The inverted index against a full sort of bm25s' own scores."""

from __future__ import annotations

import random

import bm25s
import numpy as np
import pytest

from ragdro.retrieval import postings as module
from ragdro.retrieval.postings import Postings


def indexed(rng: random.Random, passages: int, vocabulary: int) -> bm25s.BM25:
    index = bm25s.BM25(k1=1.2, b=0.75, method="atire", backend="numpy")  # idf 0 for a word of all passages
    texts = [
        ["all", *(f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(0, 6)))] for _ in range(passages)
    ]
    index.index(texts, show_progress=False)
    return index


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seed", range(8))
def test_rows_and_scores_are_those_of_a_stable_full_sort(
    seed: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_cpus", lambda: threads)
    rng = random.Random(seed)
    passages, vocabulary = rng.randint(1, 60), rng.randint(1, 12)
    index = indexed(rng, passages, vocabulary)
    known = range(len(index.scores["indptr"]) - 1)
    asked = [[rng.choice(known) for _ in range(rng.randint(0, 5))] for _ in range(20)]
    top_n = rng.randint(1, passages)
    searched = Postings(index.scores)
    for _ in range(2):  # the second search finds the accumulators as they were
        rows, scores = searched.search(asked, top_n)
        for words, question_rows, question_scores in zip(asked, rows, scores, strict=True):
            total = index.get_scores_from_ids(words)
            order = np.argsort(-total, kind="stable")[:top_n]
            assert question_rows.tolist() == order.tolist()
            assert question_scores.tolist() == total[order].tolist()
