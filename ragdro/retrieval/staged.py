"""Vectors behind a first stage: of each question only what the first stage finds is encoded and scored.

    score(q, d) = sum over tokens i of q of max over tokens j of d of E(q)_i . E(d)_j       (MaxSim)

A bi-encoder's text has one vector, and its MaxSim is the inner product. Scores are exact, over vectors in
float16; a passage that the first stage does not find is not found. Passages are encoded when they are first
asked for, and kept: in the cache folder where there is one, else beside the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int64

from ragdro.config.retriever import ColbertSettings, DenseSettings
from ragdro.retrieval.base import Retriever, RowRetriever
from ragdro.retrieval.hashing import hash_values, model_fingerprint
from ragdro.retrieval.maxsim import max_sim_of
from ragdro.retrieval.passage_vectors import PassageVectors
from ragdro.retrieval.store import PassageStore

VECTORS = "vectors"


class StagedRetriever(RowRetriever[DenseSettings | ColbertSettings]):
    """A bi-encoder or a ColBERT, whose vectors are `vectors`, over the passages that `first` finds."""

    batch_size: ClassVar[int] = 8

    def __init__(
        self,
        settings: DenseSettings | ColbertSettings,
        first: Retriever[Any],
        vectors: PassageVectors,
        *,
        show_progress: bool = False,
    ) -> None:
        super().__init__(settings, show_progress=show_progress)
        assert isinstance(first, RowRetriever) and settings.first_stage is not None
        self._first, self._stage, self._vectors = first, settings.first_stage, vectors
        self._shared: Path | None = None

    def fingerprint(self) -> str:
        return hash_values([self._first.fingerprint(), model_fingerprint(self.settings.model)])

    def index_fingerprint(self) -> str:
        return self._first.index_fingerprint()

    def share(self, folder: Path) -> None:
        self._shared = folder

    def _found(self) -> None:
        self._first._found()

    def _searched(self, questions: int) -> None:
        self._first._searched(questions)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        first = self._set_folders(folder)
        first.mkdir(exist_ok=True)
        self._first._build_index(store, first)

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._first.attach(store, self._set_folders(folder))

    def _set_folders(self, folder: Path) -> Path:
        """Where the vectors are kept is set; the first stage's folder is returned."""
        self._vectors.folder = (self._shared or folder) / VECTORS
        return folder / f"first-stage-{self._first.kind}"

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        ranked, _ = self._first._rank_batch(texts, min(max(self._stage.top, top_n), len(self.store)))
        rows = np.unique(ranked).tolist()
        vectors = dict(zip(rows, self._vectors.of([self.store[row] for row in rows]), strict=True))
        chosen, scores = [], []
        for query, of_question in zip(self._vectors.of_questions(texts), ranked, strict=True):
            passages = [vectors[row] for row in of_question.tolist()]
            lengths = np.array([len(one) for one in passages])
            own = max_sim_of(query, np.concatenate(passages).astype(np.float32), lengths)
            order = np.lexsort((of_question, -own))[:top_n]
            chosen.append(of_question[order])
            scores.append(own[order])
        return np.stack(chosen), np.stack(scores)
