"""A question, the passages that may answer it, and the task of selecting some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Permutation: TypeAlias = tuple[int, ...]
"""An ordered selection: distinct 0-based indices into a question's candidates (the latent `z`)."""

Role: TypeAlias = Literal["selector", "generator", "rewriter"]
"""What a model does."""

QuestionField: TypeAlias = Literal["id", "question", "answers", "passages", "candidates"]
CorpusField: TypeAlias = Literal["passage_id", "title", "text"]
"""What data files may have under other names (`data.fields`)."""


@dataclass(frozen=True, slots=True)
class PassageSource:
    """Where a passage was cut from: `path` is relative to the ingested folder, with `/` on every system.

    `start` and `end` count characters of the text that was read there (of the row's text, where `row` is
    set). `page`, `slide` and `row` count from 1; None where the file has no such thing.
    """

    path: str
    start: int
    end: int
    page: int | None = None
    slide: int | None = None
    row: int | None = None

    def __str__(self) -> str:
        places = (("page", self.page), ("slide", self.slide), ("row", self.row))
        return ", ".join([self.path, *(f"{name} {number}" for name, number in places if number is not None)])


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved text unit. `gold` says whether it supports the answer (None: not known)."""

    id: str
    title: str
    text: str
    gold: bool | None = None
    source: PassageSource | None = None

    @property
    def content(self) -> tuple[str, str]:
        """Title and text: what makes two passages the same where their ids come from two files."""
        return (self.title, self.text)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The top-N list of one question, best first; `scores` are the retriever's, None for no score."""

    question_id: str
    passages: tuple[Passage, ...]
    scores: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its gold answers.

    `answers[0]` is the one trained on; evaluation scores against all. `passages` are those that came
    with the question (with gold labels, where the data has them), `candidates` a top-N list that came
    with it, and `ranking` a teacher's order of passage ids, best first (None: the data has none).
    `hops` is how many passages it takes, where the data says so: metrics are broken down by it.
    `queries` are a teacher's follow-up queries in order, one a further retrieval (the first asks the
    question itself); empty: one retrieval is enough; None: the data has none. `standalone` is the question
    made to stand alone, where it is a dialogue's turn and the data says so: a teacher's first query.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...] = ()
    candidates: Candidates | None = None
    ranking: tuple[str, ...] | None = None
    hops: int | None = None
    queries: tuple[str, ...] | None = None
    standalone: str | None = None

    @property
    def gold_passages(self) -> tuple[Passage, ...]:
        """The passages labelled as supporting the answer; empty where nothing is labelled."""
        return tuple(p for p in self.passages if p.gold)


@dataclass(frozen=True, slots=True)
class Task:
    """A question and the candidates to select from; `read`: the passages that earlier rounds selected;
    `given`: somebody gave the candidates with the question, so that no query is written for them."""

    question: Question
    candidates: Candidates
    read: tuple[Passage, ...] = ()
    given: bool = False
