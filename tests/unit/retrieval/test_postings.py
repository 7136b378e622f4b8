"""The inverted index against a full sort of bm25s' own scores."""

from __future__ import annotations

import random
from typing import Any

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


class Watched(np.ndarray[Any, Any]):
    """Notes how many entries are looked at at once. What looks at all of them is refused."""

    sizes: list[int]

    def _looked_at(self, key: Any) -> Any:
        read = self.view(np.ndarray)[key]
        self.sizes.append(np.size(read))
        return read

    def __getitem__(self, key: Any) -> Any:
        return self._looked_at(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._looked_at(key)
        self.view(np.ndarray)[key] = value

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        raise AssertionError(f"{ufunc} looks at every entry, or (as 'at') lets no other thread run")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        raise AssertionError(f"{function} looks at every entry")


def watched(array: Any, sizes: list[int]) -> Watched:
    seen: Watched = array.view(Watched)
    seen.sizes = sizes
    return seen


def test_a_search_looks_at_no_more_than_the_passages_of_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cpus", lambda: 1)
    index, zeros, sizes = bm25s.BM25(backend="numpy"), np.zeros, list[int]()
    texts = [["all", *["rare"] * (i % 40 == 3), *["few"] * (i % 100 == 3)] for i in range(200)]
    index.index(texts, show_progress=False)
    words = [index.vocab_dict[word] for word in ("rare", "few")]
    arrays = {**index.scores, **{name: watched(index.scores[name], sizes) for name in ("data", "indices")}}
    searched = Postings(arrays)
    monkeypatch.setattr(np, "zeros", lambda *rest, **options: watched(zeros(*rest, **options), sizes))
    rows, _ = searched.search([words, words[:1]], 2)
    assert rows.tolist() == [[3, 103], [43, 83]]
    assert set(sizes) == {5, 2, 5 + 2}  # of 200 passages
