"""The best passages by an inverted index: for each word the passages that hold it, each with its score.

In: bm25s' arrays, which may be memory-mapped. Out: rows and scores. Only passages that hold a word of the
question are looked at, and several questions are searched at once, each in a thread: what numpy does here, it
does without Python's lock (`np.add.at` would hold it). Scores are added word after word in float32, as bm25s
adds them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Integer

from ragdro.retrieval.ranking import top_rows

MOST_SCORES = 2**28
"""Scores that all threads together hold, 4 bytes each: bounds their number over a large corpus."""


class Postings:
    """Scores of words in passages, word after word: those of word t are at `starts[t] : starts[t + 1]`."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._scores: Float32[np.ndarray, " postings"] = arrays["data"]
        self._rows: Integer[np.ndarray, " postings"] = arrays["indices"]
        self._starts: Integer[np.ndarray, " boundaries"] = arrays["indptr"]
        self._passages = int(arrays["num_docs"])
        self._threads = max(1, min(_cpus(), MOST_SCORES // self._passages))
        self._held = threading.local()

    def search(
        self, questions: Sequence[Sequence[int]], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        """The best top_n rows of each question (its words' numbers), best first, and their scores.

        Equal scores stand in row order; rows without a word of the question have score 0. `top_n` is at
        most the number of passages.
        """
        rows = np.empty((len(questions), top_n), dtype=np.int64)
        scores = np.empty((len(questions), top_n), dtype=np.float32)
        threads = min(self._threads, len(questions))

        def rank(first: int) -> None:
            for i in range(first, len(questions), threads):
                rows[i], scores[i] = self._best(questions[i], top_n)

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(rank, range(threads)):
                    pass
        elif threads:
            rank(0)
        return rows, scores

    def _best(
        self, words: Sequence[int], top_n: int
    ) -> tuple[Int64[np.ndarray, " choices"], Float32[np.ndarray, " choices"]]:
        rows, scores = self._matches(words, top_n)
        best = top_rows(scores, min(top_n, len(rows)), rows)
        rows, scores = rows[best], scores[best]
        missing = top_n - len(rows)
        if missing:  # at least that many of the first top_n rows do not match
            first = np.setdiff1d(np.arange(top_n), rows)[:missing]
            rows = np.concatenate([rows, first])
            scores = np.concatenate([scores, np.zeros(missing, dtype=np.float32)])
        return rows, scores

    def _matches(
        self, words: Sequence[int], top_n: int
    ) -> tuple[Int64[np.ndarray, " matches"], Float32[np.ndarray, " matches"]]:
        """Rows with a score above 0, in no order, and their scores; the best top_n are among them.

        The shortest list of rows that is long enough has top_n scores of its own: less than the least of
        them is not among the best of all.
        """
        slices = {word: slice(*map(int, self._starts[word : word + 2])) for word in words}
        lists = [self._rows[postings] for postings in slices.values()]
        none = np.empty(0, dtype=np.int64)
        rows = np.concatenate([none, *lists], dtype=np.int64)  # numpy takes twice as long to look up others
        ends = np.cumsum([0, *map(len, lists)]).tolist()
        places = dict(zip(slices, starmap(slice, pairwise(ends)), strict=True))
        held = vars(self._held)
        passage_sums = held.pop("sums", None)  # out of the thread's hands until it is all 0 again
        if passage_sums is None:
            passage_sums = np.zeros(self._passages, dtype=np.float32)
        for word in words:
            passage_sums[rows[places[word]]] += self._scores[slices[word]]  # no row twice
        scores = passage_sums[rows]
        passage_sums[rows] = 0  # the next question starts at 0
        held["sums"] = passage_sums
        least = np.nextafter(np.float32(0), np.float32(1))
        enough = [place for place in places.values() if place.stop - place.start >= top_n]
        if enough:
            shortest = scores[min(enough, key=lambda place: place.stop - place.start)]
            least = max(least, np.partition(shortest, -top_n)[-top_n])
        kept = np.flatnonzero(scores >= least)
        distinct, first = np.unique(rows[kept], return_index=True)
        return distinct, scores[kept[first]]


def _cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
