"""Vectors of passages by one model, encoded when they are asked for and kept.

In: passages. Out: their vectors in float16, whether they come from the cache on disk or from the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from ragdro.config.retriever import ColbertSettings, DenseSettings
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file
from ragdro.retrieval.embedding import Embedding, TokenEmbedding, is_probe_of, written_by
from ragdro.retrieval.encoders import passage_text
from ragdro.retrieval.hashing import hash_values
from ragdro.retrieval.vector_cache import VectorCache, text_key
from ragdro.types import Passage


class PassageVectors:
    """One vector a token, of a bi-encoder one in all; at most `gigabytes` of 10^9 bytes of them in `folder`,
    which is set before anything is asked for."""

    folder: Path

    def __init__(self, settings: DenseSettings | ColbertSettings, gigabytes: float) -> None:
        self._settings, self._budget = settings, int(gigabytes * 1e9)
        self._embedding: Embedding | TokenEmbedding
        if isinstance(settings, ColbertSettings):
            self._embedding = TokenEmbedding(settings)
        else:
            self._embedding = Embedding(settings)

    @property
    def model(self) -> str:
        """What the settings call the weights."""
        return self._settings.model

    @property
    def probe(self) -> Float32[np.ndarray, " width"]:
        """The encoding of a fixed text: it shows which weights are loaded, and how wide a vector is."""
        return np.array(self._embedding.probe, dtype=np.float32)

    def of(
        self, passages: Sequence[Passage], *, make_room: bool = True
    ) -> list[Float16[np.ndarray, "_ width"]]:
        """The vectors of each passage; those that were not there are kept, the oldest making room for them
        (without `make_room`: while there is room)."""
        keys = [text_key(passage_text(passage)) for passage in passages]
        known = self._cache.get(list(dict.fromkeys(keys)))
        missing = {key: passage for key, passage in zip(keys, passages, strict=True) if key not in known}
        if missing:
            encoded = self._embedding.of_passages(list(missing.values()))
            made = {
                key: np.atleast_2d(vectors).astype(np.float16)
                for key, vectors in zip(missing, encoded, strict=True)
            }
            self._cache.add(made, make_room=make_room)
            known |= made
        return [known[key] for key in keys]

    def of_questions(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ width"]]:
        """The vectors of each question."""
        return [np.atleast_2d(vectors) for vectors in self._embedding.of_questions(texts)]

    @cached_property
    def _cache(self) -> VectorCache:
        """Those of this model, whichever corpus they were encoded for. RetrievalError where the weights
        behind the model's name have changed since."""
        name = hash_values([written_by(self._settings)])[:32]
        probe = self.folder / f"{name}.probe.npy"
        if self._budget and probe.exists() and not is_probe_of(self._embedding, np.load(probe).tolist()):
            raise RetrievalError(
                f"{probe}: {self.model!r} has other weights now than those that encoded these vectors;"
                f" remove {self.folder / name}.*"
            )
        if self._budget and not probe.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(probe) as file:
                np.save(file, self.probe)
        return VectorCache(self.folder / f"{name}.sqlite", len(self.probe), self._budget)
