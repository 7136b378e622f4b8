"""Questions that are passages of the corpus themselves, as in BEIR's ArguAna: not their own candidates."""

from __future__ import annotations

from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates, Passage, Question


def is_passage(question: Question, store: PassageStore) -> bool:
    """Whether the question is a passage of the store: the same id and text, with or without the title."""
    row = store.row_of(question.id)
    return row is not None and asks_itself(question, store[row])


def asks_itself(question: Question, passage: Passage) -> bool:
    """Whether the question is the text of the passage, with or without the title."""
    asked = _letters(question.question)
    return asked in (_letters(passage.text), _letters(f"{passage.title} {passage.text}"))


def _letters(text: str) -> str:
    """What is compared of two texts: spaces, punctuation and case aside."""
    return "".join(character for character in text.casefold() if character.isalnum())


def first_without(candidates: Candidates, top_n: int, without: str | None) -> Candidates:
    """The first top_n candidates, the passage with the id `without` left out."""
    if without is None and len(candidates.passages) <= top_n:
        return candidates
    kept = [index for index, passage in enumerate(candidates.passages) if passage.id != without][:top_n]
    return Candidates(
        candidates.question_id,
        tuple(candidates.passages[index] for index in kept),
        None if candidates.scores is None else tuple(candidates.scores[index] for index in kept),
    )
