"""What queries find: texts that a model wrote, each distinct one searched for once.

In: texts, any number of times the same. Out: the candidates of each. Retrieval is a function of the text, so
what was found is kept by it, and a passage that several have found is one object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ragdro.retrieval.base import Retriever
from ragdro.retrieval.custom import around
from ragdro.types import Candidates, Passage, Question, Task

Find: TypeAlias = Callable[[Sequence[str], int], Sequence[Candidates]]
"""From texts, none of them empty, and how many passages each may have, to what they find, best first."""
_KEPT = 100_000
"""Texts whose candidates are kept; where there are more, the newest half of so many are."""


class QuerySearch:
    """`find` with a memory. A query has `top_n` candidates when what was read, `read` passages at most, is
    left out."""

    def __init__(self, find: Find, top_n: int, read: int) -> None:
        self.top_n = top_n
        self._find, self._depth = find, top_n + read
        self._known: dict[str, Candidates] = {}
        self._passages: dict[str, Passage] = {}

    def search(self, texts: Sequence[str]) -> dict[str, Candidates]:
        """What each distinct text finds, by text; an empty one finds nothing."""
        asked = dict.fromkeys(texts)
        missing = [text for text in asked if text.strip() and text not in self._known]
        if missing:
            for text, candidates in zip(missing, self._find(missing, self._depth), strict=True):
                kept = tuple(self._passages.setdefault(p.id, p) for p in candidates.passages)
                self._known[text] = replace(candidates, passages=kept)
        result = {text: self._known.get(text, Candidates("", ())) for text in asked}
        if len(self._known) > _KEPT:
            self._known = dict(list(self._known.items())[-_KEPT // 2 :])
            self._passages = {p.id: p for candidates in self._known.values() for p in candidates.passages}
        return result


def unread(candidates: Candidates, task: Task, top_n: int) -> Candidates:
    """The first `top_n` candidates that are not among what was read, as those of the question."""
    known = {passage.id for passage in task.read}
    kept = [i for i, passage in enumerate(candidates.passages) if passage.id not in known][:top_n]
    scores = None if candidates.scores is None else tuple(candidates.scores[i] for i in kept)
    return Candidates(task.question.id, tuple(candidates.passages[i] for i in kept), scores)


def as_find(retriever: Any) -> Find:
    """What searches for queries: one of our retrievers that is open, an object with `search(queries, top_n)`
    (see `ragdro.retrieval.custom`), or a function from questions to candidates."""
    if isinstance(retriever, Retriever):
        return retriever.find
    if hasattr(retriever, "search"):
        return around(retriever).find
    return lambda texts, _: retriever([Question(f"query-{i}", text, ()) for i, text in enumerate(texts)])
