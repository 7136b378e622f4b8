"""Candidates that something else retrieved, from a file.

A TREC run (`qid Q0 docid rank score tag`, one hit a line) names passages by their ids in the corpus. A
DPR results file and our own candidates file bring the passages themselves; the first names questions by
their text. TREC and DPR files may be compressed (gz, zst).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from ragdro.config.retriever import CandidatesFile, DprResults, ExternalSettings, TrecRun
from ragdro.data import read_questions
from ragdro.data.stream import lines
from ragdro.errors import DataError, RetrievalError, brief
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.candidates import read_candidates
from ragdro.retrieval.hashing import hash_file
from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates, Question
from ragdro.units import counted


class Hit(NamedTuple):
    """One line of a run, in the order that ranks them: the score's negative, the rank, the id."""

    negative_score: float
    rank: int
    passage_id: str


class TrecRunRetriever(Retriever[ExternalSettings]):
    """The passages that a run file names, by falling score (equal scores by rank), from the corpus."""

    searches_store: ClassVar[bool] = True

    lists_known = True

    _run: dict[str, list[Hit]]

    def fingerprint(self) -> str:
        return hash_file(self._source.path)

    def index_fingerprint(self) -> str:
        return ""  # the corpus alone

    @property
    def _source(self) -> TrecRun:
        assert isinstance(self.settings.source, TrecRun)
        return self.settings.source

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._run = read_trec_run(self._source.path)

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        return [self._of(question, top_n) for question in questions]

    def _of(self, question: Question, top_n: int) -> Candidates:
        hits = self._run.get(question.id, [])[:top_n]
        rows = [self.store.row_of(hit.passage_id) for hit in hits]
        passages = []
        for hit, row in zip(hits, rows, strict=True):
            if row is None:
                named = f"passage {hit.passage_id!r} of question {question.id!r}"
                raise RetrievalError(f"{self._source.path}: {named} is not in the corpus")
            passages.append(self.store[row])
        return Candidates(question.id, tuple(passages), tuple(-hit.negative_score for hit in hits))


class ListedRetriever(Retriever[ExternalSettings]):
    """What a file lists for a question: of its id in our candidates file, of its text in DPR's."""

    lists_known = True

    _listed: dict[str, Candidates] | None = None

    def needs_corpus(self, questions: Sequence[Question]) -> bool:
        return False

    def fingerprint(self) -> str:
        return hash_file(self._source.path)

    def index_fingerprint(self) -> str:
        return ""

    @property
    def _source(self) -> CandidatesFile | DprResults:
        assert isinstance(self.settings.source, CandidatesFile | DprResults)
        return self.settings.source

    def _search_batch(self, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        if self._listed is None:
            self._listed = _read_listed(self._source)
        by_text = isinstance(self._source, DprResults)
        out = []
        for question in questions:
            candidates = self._listed.get(question.question if by_text else question.id)
            if candidates is None:
                raise RetrievalError(f"{self._source.path}: no candidates of question {question.id!r}")
            scores = None if candidates.scores is None else candidates.scores[:top_n]
            out.append(Candidates(question.id, candidates.passages[:top_n], scores))
        return out


def _read_listed(source: CandidatesFile | DprResults) -> dict[str, Candidates]:
    if isinstance(source, CandidatesFile):
        return {candidates.question_id: candidates for candidates in read_candidates(source.path)}
    return {record.question: record.candidates for record in read_questions(source.path) if record.candidates}


def read_trec_run(path: Path) -> dict[str, list[Hit]]:
    """Question id to its hits, best first; DataError names file, line and field of a bad one."""
    run: dict[str, list[Hit]] = {}
    for number, line in lines(path):
        fields = line.decode("utf-8", "replace").split()
        if len(fields) != 6:
            message = f"{counted(len(fields), 'fields')}, not 6 (qid Q0 docid rank score tag)"
            raise DataError(message, path=path, line=number)
        question_id, _, passage_id, rank, score, _ = fields
        run.setdefault(question_id, []).append(
            Hit(-_number(score, "score", path, number), int(_number(rank, "rank", path, number)), passage_id)
        )
    for question_id, hits in run.items():
        hits.sort()
        if len({hit.passage_id for hit in hits}) < len(hits):
            raise DataError(f"question {brief(question_id)} has a passage twice", path=path)
    if not run:
        raise DataError("the run holds no line", path=path)
    return run


def _number(text: str, field: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"not a number: {brief(text)}", path=path, line=line, field=field)
    return value
