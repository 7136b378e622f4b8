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

        def rank(i: int) -> None:
            rows[i], scores[i] = self._best(questions[i], top_n)

        if self._threads == 1 or len(questions) == 1:
            for i in range(len(questions)):
                rank(i)
        else:
            with ThreadPoolExecutor(min(self._threads, len(questions))) as pool:
                for _ in pool.map(rank, range(len(questions))):
                    pass
        return rows, scores

    def _best(
        self, words: Sequence[int], top_n: int
    ) -> tuple[Int64[np.ndarray, " choices"], Float32[np.ndarray, " choices"]]:
        rows, scores = self._matches(words)
        best = top_rows(scores, min(top_n, len(rows)), rows)
        rows, scores = rows[best], scores[best]
        missing = top_n - len(rows)
        if missing:  # at least that many of the first top_n rows do not match
            first = np.setdiff1d(np.arange(top_n), rows)[:missing]
            rows = np.concatenate([rows, first])
            scores = np.concatenate([scores, np.zeros(missing, dtype=np.float32)])
        return rows, scores

    def _matches(
        self, words: Sequence[int]
    ) -> tuple[Int64[np.ndarray, " matches"], Float32[np.ndarray, " matches"]]:
        """The rows with a score above 0, in no order, and their scores."""
        held = vars(self._held)
        total = held.pop("total", None)  # out of the thread's hands until it is all 0 again
        if total is None:
            total = np.zeros(self._passages, dtype=np.float32)
        for word in words:
            total[self._rows_of(word)] += self._scores[self._part(word)]  # no row twice
        found_rows, found_scores = [], []
        for word in dict.fromkeys(words):
            rows = self._rows_of(word)
            scores = total[rows]
            total[rows] = 0  # so that a row is taken at its first word, and the next question starts at 0
            taken = np.flatnonzero(scores)
            found_rows.append(rows[taken])
            found_scores.append(scores[taken])
        held["total"] = total
        if not found_rows:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        return np.concatenate(found_rows), np.concatenate(found_scores)

    def _rows_of(self, word: int) -> Int64[np.ndarray, " matches"]:
        """As 64-bit numbers: numpy takes twice as long to look up others."""
        return self._rows[self._part(word)].astype(np.int64)

    def _part(self, word: int) -> slice:
        return slice(int(self._starts[word]), int(self._starts[word + 1]))


def _cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
