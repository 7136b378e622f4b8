"""Reciprocal-rank fusion of several retrievers (Cormack, Clarke & Buettcher, SIGIR 2009).

    score(d) = sum over members m that rank d of weight_m / (constant + rank_m(d))       ranks from 1

Passages are the same where their ids are; equal scores keep the order in which they were first seen,
member after member. The members share one passage store.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ragdro.config.retriever import HybridSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.hashing import hash_values
from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates, Passage, Question
from ragdro.units import counted


class HybridRetriever(Retriever[HybridSettings]):
    """The fused ranking of `members`, which stand in the order of the settings."""

    searches_store: ClassVar[bool] = True

    def __init__(
        self, settings: HybridSettings, members: Sequence[Retriever[Any]], *, show_progress: bool = False
    ) -> None:
        super().__init__(settings, show_progress=show_progress)
        self._members = members
        self.lists_known = any(member.lists_known for member in members)
        self._weights = settings.weights or (1.0,) * len(members)
        if len(self._weights) != len(members):
            given = f"{counted(len(self._weights), 'weights')} for {counted(len(members), 'members')}"
            raise RetrievalError(f"retriever.weights: {given}")

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return any(member.needs_corpus(questions) for member in self._members)

    def _found(self) -> None:
        for member in self._members:
            member._found()

    def _searched(self, questions: int) -> None:
        for member in self._members:
            member._searched(questions)

    def share(self, folder: Path) -> None:
        for member in self._members:
            member.share(folder)

    def fingerprint(self) -> str:
        return hash_values(member.fingerprint() for member in self._members)

    def index_fingerprint(self) -> str:
        return hash_values(member.index_fingerprint() for member in self._members)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        for member, part in zip(self._members, self._folders(folder), strict=True):
            part.mkdir(exist_ok=True)
            member._build_index(store, part)

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        for member, part in zip(self._members, self._folders(folder), strict=True):
            member.attach(store, part)

    def _folders(self, folder: Path) -> list[Path]:
        return [folder / f"member-{index}-{member.kind}" for index, member in enumerate(self._members)]

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        depth = max(self.settings.depth, top_n)
        if self._store is not None:
            depth = min(depth, len(self._store))
        rankings = [member._search_batch(questions, depth) for member in self._members]
        return [
            fuse(of_question, self._weights, self.settings.constant, top_n)
            for of_question in zip(*rankings, strict=True)
        ]


def fuse(rankings: Sequence[Candidates], weights: Sequence[float], constant: float, top_n: int) -> Candidates:
    """The fused top_n of several rankings of one question; all of them where there are fewer."""
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, passage in enumerate(ranking.passages, start=1):
            passages.setdefault(passage.id, passage)
            scores[passage.id] = scores.get(passage.id, 0.0) + weight / (constant + rank)
    best = sorted(scores, key=lambda name: -scores[name])[:top_n]
    return Candidates(
        rankings[0].question_id,
        tuple(passages[name] for name in best),
        tuple(scores[name] for name in best),
    )
