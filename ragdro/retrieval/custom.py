"""A retriever of one's own, by import path: `retriever: {kind: "package.module:ClassName", key: value}`.

The class is made with the further keys as keyword arguments, and has

    search(queries: Sequence[str], top_n: int) -> list[list[Passage]] or list[list[tuple[Passage, float]]]

one list a query, best first; of a longer one the first top_n are taken, of a shorter one all. With an
attribute `fingerprint`, a string that changes whenever results may change, candidates are cached; without
one, every run searches again.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

from ragdro.config.plugins import load_class
from ragdro.config.retriever import CustomSettings
from ragdro.errors import RetrievalError, brief
from ragdro.retrieval.base import Retriever
from ragdro.types import Candidates, Passage, Question
from ragdro.units import counted


class CustomRetriever(Retriever[CustomSettings]):
    """The user's class behind our interface: its results are checked, and cut to top_n."""

    def __init__(self, settings: CustomSettings, *, own: Any = None, show_progress: bool = False) -> None:
        """`own`: an object of the class, where there is one already.

        Raises `ConfigError` for a class that does not exist, `RetrievalError` for one without what it has to
        have.
        """
        super().__init__(settings, show_progress=show_progress)
        self._own = _made(settings) if own is None else own
        fingerprint = getattr(self._own, "fingerprint", None)
        if not isinstance(fingerprint, str | None):
            raise RetrievalError(f"{settings.kind}: fingerprint is no string, but {brief(fingerprint)}")
        self._fingerprint = fingerprint

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def fingerprint(self) -> str:
        return self._fingerprint or ""

    def is_cacheable(self) -> bool:
        return bool(self._fingerprint)

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        results = self._own.search([question.question for question in questions], top_n)
        if not isinstance(results, Sequence) or len(results) != len(questions):
            raise RetrievalError(f"{self.kind}: search gave no list of {counted(len(questions), 'lists')}")
        return [
            self._checked(question, hits, top_n) for question, hits in zip(questions, results, strict=True)
        ]

    def _checked(self, question: Question, hits: object, top_n: int) -> Candidates:
        place = f"{self.kind}: question {question.id!r}"
        if not isinstance(hits, Sequence):
            raise RetrievalError(f"{place}: search gave no list, but {brief(hits)}")
        passages, scores = [], []
        for hit in hits[:top_n]:
            passage, score = hit if isinstance(hit, tuple) and len(hit) == 2 else (hit, None)
            if not isinstance(passage, Passage):
                raise RetrievalError(f"{place}: neither a Passage nor (Passage, score): {brief(hit)}")
            passages.append(passage)
            if score is not None:
                scores.append(_number(score, place))
        if scores and len(scores) < len(passages):
            raise RetrievalError(f"{place}: scores on some passages and not on others")
        if len({passage.id for passage in passages}) < len(passages):
            raise RetrievalError(f"{place}: a passage id occurs twice")
        return Candidates(question.id, tuple(passages), tuple(scores) if scores else None)


def around(own: Any) -> CustomRetriever:
    """An object that has `search` as a retriever of ours."""
    kind = f"{type(own).__module__.replace('<', '').replace('>', '')}:{type(own).__name__}"
    return CustomRetriever(CustomSettings(kind=kind), own=own)


def _made(settings: CustomSettings) -> Any:
    own = load_class(settings.kind, "retriever.kind")
    if not callable(getattr(own, "search", None)):
        raise RetrievalError(f"retriever.kind: {settings.kind} has no method search(queries, top_n)")
    try:
        inspect.signature(own).bind(**settings.arguments)
    except TypeError as error:
        keys = ", ".join(settings.arguments) or "none"
        raise RetrievalError(
            f"retriever: {settings.kind} does not take these keys ({keys}): {error}"
        ) from error
    return own(**settings.arguments)


def _number(score: object, place: str) -> float:
    try:
        number = float(score)  # type: ignore[arg-type]  # what is no number raises
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RetrievalError(f"{place}: a score is no finite number: {brief(score)}")
    return number
