"""BM25 as a product of sparse vectors, for stores that know each word's document frequency.

    score(q, d) = sum over words t of q, and of d, of idf(t) * weight(t, d)
    weight(t, d) = f(t, d) (k1 + 1) / (f(t, d) + k1 (1 - b + b |d| / mean))

The store supplies idf(t); a passage's vector holds the weights, a question's a 1 for each of its words. A
word's place is a 32-bit hash of its stem: in a million words, one in 4,000 shares its place with another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

from ragdro.config.retriever import Bm25Settings
from ragdro.config.stores import QdrantSparse
from ragdro.retrieval.language import word_rules
from ragdro.types import Passage

SparseVector = dict[int, float]


class SparseWords:
    """Passages and questions as vectors over words; RetrievalError for a language that is not known."""

    def __init__(self, settings: QdrantSparse) -> None:
        self._settings = settings
        self._rules = word_rules(Bm25Settings(), settings.language)

    def mean_length(self, passages: Iterable[Passage]) -> float:
        """The mean number of words of the passages; 1 where none has a word."""
        words = count = 0
        for passage in passages:
            words += len(self._of(passage))
            count += 1
        return words / count if words else 1.0

    def of_passage(self, passage: Passage, mean_length: float) -> SparseVector:
        """The weights of a passage's words."""
        words = self._of(passage)
        k1, b = self._settings.k1, self._settings.b
        floor = k1 * (1 - b + b * len(words) / mean_length)
        weights: SparseVector = {}
        for word, count in Counter(words).items():
            place = _place(word)
            weights[place] = weights.get(place, 0.0) + count * (k1 + 1) / (count + floor)
        return weights

    def of_question(self, text: str) -> SparseVector:
        """A 1 for each word of a question, however often it has it."""
        return {_place(word): 1.0 for word in self._rules.of(text)}

    def _of(self, passage: Passage) -> list[str]:
        return self._rules.of(f"{passage.title} {passage.text}")


def _place(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "little")
