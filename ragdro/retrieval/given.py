"""Candidates that came with the question: its `candidates`, or else its `passages`, in their order.

Candidates that are corpus ids alone are looked up in the corpus, which then has to be given.
"""

from __future__ import annotations

from collections.abc import Sequence

from ragdro.config.retriever import GivenSettings
from ragdro.data.own import is_reference
from ragdro.errors import RetrievalError
from ragdro.retrieval.base import Retriever
from ragdro.types import Candidates, Passage, Question


class GivenRetriever(Retriever[GivenSettings]):
    """The first top_n of what each question brings: fewer where it brings fewer, an error for none."""

    lists_known = True

    def is_cacheable(self) -> bool:
        return False  # what is given is no part of the key, and nothing is searched

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return any(is_reference(passage) for question in questions for passage in _given(question).passages)

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        return [self._resolved(_given(question), top_n) for question in questions]

    def _resolved(self, given: Candidates, top_n: int) -> Candidates:
        passages = tuple(
            self._lookup(passage, given.question_id) if is_reference(passage) else passage
            for passage in given.passages[:top_n]
        )
        return Candidates(given.question_id, passages, given.scores and given.scores[:top_n])

    def _lookup(self, reference: Passage, question_id: str) -> Passage:
        row = self.store.row_of(reference.id)
        if row is None:
            raise RetrievalError(
                f"question {question_id!r}: its candidate {reference.id!r} is not in the corpus"
            )
        return self.store[row]


def _given(question: Question) -> Candidates:
    """RetrievalError for a question that brings neither candidates nor passages."""
    if question.candidates is not None and question.candidates.passages:
        return question.candidates
    if not question.passages:
        raise RetrievalError(f"question {question.id!r} brings no candidates and no passages")
    return Candidates(question.id, question.passages)
