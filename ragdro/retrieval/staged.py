"""Vectors behind a first stage: of each question only what the first stage finds is encoded and scored.

    score(q, d) = sum over tokens i of q of max over tokens j of d of E(q)_i . E(d)_j       (MaxSim)

A bi-encoder's text has one vector, and its MaxSim is the inner product. Scores are exact, over vectors in
float16; a passage that the first stage does not find is not found. Passages are encoded when they are first
asked for, and kept (`vector_cache`): in the cache folder where there is one, else beside the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float16, Float32, Int64

from ragdro.config.retriever import ColbertSettings, DenseSettings
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file
from ragdro.retrieval.base import Retriever, RowRetriever
from ragdro.retrieval.embedding import Embedding, TokenEmbedding, is_probe_of, written_by
from ragdro.retrieval.encoders import passage_text
from ragdro.retrieval.hashing import hash_values, model_fingerprint
from ragdro.retrieval.maxsim import max_sim_of
from ragdro.retrieval.store import PassageStore
from ragdro.retrieval.vector_cache import VectorCache, text_key

VECTORS = "vectors"


class StagedRetriever(RowRetriever[DenseSettings | ColbertSettings]):
    """A bi-encoder or a ColBERT over the passages that `first` finds."""

    batch_size: ClassVar[int] = 8

    _folder: Path

    def __init__(
        self,
        settings: DenseSettings | ColbertSettings,
        first: Retriever[Any],
        *,
        show_progress: bool = False,
    ) -> None:
        super().__init__(settings, show_progress=show_progress)
        assert isinstance(first, RowRetriever) and settings.first_stage is not None
        self._first, self._stage = first, settings.first_stage
        self._shared: Path | None = None
        self._embedding: Embedding | TokenEmbedding
        if isinstance(settings, ColbertSettings):
            self._embedding = TokenEmbedding(settings)
        else:
            self._embedding = Embedding(settings)

    def fingerprint(self) -> str:
        return hash_values([self._first.fingerprint(), model_fingerprint(self.settings.model)])

    def index_fingerprint(self) -> str:
        return self._first.index_fingerprint()

    def share(self, folder: Path) -> None:
        self._shared = folder

    def _searched(self, questions: int) -> None:
        self._first._searched(questions)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        first = self._first_folder(folder)
        first.mkdir(exist_ok=True)
        self._first._build_index(store, first)

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._first.attach(store, self._first_folder(folder))
        self._folder = folder

    def _first_folder(self, folder: Path) -> Path:
        return folder / f"first-stage-{self._first.kind}"

    @cached_property
    def _cache(self) -> VectorCache:
        """The vectors of this model, whichever corpus they were encoded for. RetrievalError where the weights
        behind the model's name have changed since."""
        folder = (self._shared or self._folder) / VECTORS
        name = hash_values([written_by(self.settings)])[:32]
        budget = int(self._stage.cache_gb * 1e9)
        probe, values = folder / f"{name}.probe.npy", np.array(self._embedding.probe, dtype=np.float32)
        if budget and probe.exists() and not is_probe_of(self._embedding, np.load(probe).tolist()):
            raise RetrievalError(
                f"{probe}: {self.settings.model!r} has other weights now than those that encoded these"
                f" vectors; remove {folder / name}.*"
            )
        if budget and not probe.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(probe) as file:
                np.save(file, values)
        return VectorCache(folder / f"{name}.sqlite", len(values), budget)

    def _vectors_of(self, rows: Sequence[int]) -> dict[int, Float16[np.ndarray, "_ width"]]:
        """The vectors of the passages in these rows, those encoded that are not kept."""
        passages = {row: self.store[row] for row in rows}
        keys = {row: text_key(passage_text(passage)) for row, passage in passages.items()}
        known = self._cache.get(list(dict.fromkeys(keys.values())))
        missing = {keys[row]: passage for row, passage in passages.items() if keys[row] not in known}
        encoded = self._embedding.of_passages(list(missing.values())) if missing else []
        made = {
            key: np.atleast_2d(vectors).astype(np.float16)
            for key, vectors in zip(missing, encoded, strict=True)
        }
        self._cache.add(made)
        return {row: known[key] if key in known else made[key] for row, key in keys.items()}

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        found, _ = self._first._rank_batch(texts, min(max(self._stage.top, top_n), len(self.store)))
        vectors = self._vectors_of(np.unique(found).tolist())
        queries = self._embedding.of_questions(texts)
        chosen, scores = [], []
        for query, rows in zip(queries, found, strict=True):
            of_question = [vectors[row] for row in rows.tolist()]
            lengths = np.array([len(one) for one in of_question])
            stacked = np.concatenate(of_question).astype(np.float32)
            own = max_sim_of(np.atleast_2d(query).astype(np.float32), stacked, lengths)
            order = np.lexsort((rows, -own))[:top_n]
            chosen.append(rows[order])
            scores.append(own[order])
        return np.stack(chosen), np.stack(scores)
