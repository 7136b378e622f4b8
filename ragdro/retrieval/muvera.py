"""A first stage for late interaction: one vector a passage, made of the token vectors themselves (MUVERA).

    score(q, d) = F(q) . F(d)          (`fixed_dimensional`)

It stands for MaxSim and needs no other model. Passages are encoded once; while the cache of vectors has room,
their token vectors are kept for the exact scores behind this stage. The hyperplanes are kept with the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ragdro.config.retriever import MuveraFirstStage
from ragdro.files import atomic_file
from ragdro.retrieval.fixed_dimensional import FixedDimensional
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.retrieval.passage_vectors import PassageVectors
from ragdro.retrieval.single_vector import SingleVectorRetriever
from ragdro.retrieval.store import PassageStore
from ragdro.types import Passage

PLANES = "muvera.npz"
_SEED = 0
_PASSAGES = 256
"""Passages whose token vectors are in memory at once."""


class MuveraRetriever(SingleVectorRetriever[MuveraFirstStage]):
    """Fixed-dimensional encodings of `vectors` over a FAISS index."""

    _planes: Path

    def __init__(
        self, settings: MuveraFirstStage, vectors: PassageVectors, *, show_progress: bool = False
    ) -> None:
        super().__init__(settings, show_progress=show_progress)
        self._vectors = vectors

    def fingerprint(self) -> str:
        return model_fingerprint(self._vectors.model)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        self._planes = folder / PLANES
        super()._build_index(store, folder)

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._planes = folder / PLANES
        super()._open_index(store, folder)

    @cached_property
    def _encoding(self) -> FixedDimensional:
        if not self._planes.exists():
            settings, width = self.settings, len(self._vectors.probe)
            drawn = FixedDimensional.drawn(
                width,
                settings.repetitions,
                settings.hyperplanes,
                settings.projection,
                np.random.default_rng(_SEED),
            )
            with atomic_file(self._planes) as file:
                np.savez(file, planes=drawn.planes, signs=drawn.signs)
        with np.load(self._planes) as arrays:
            return FixedDimensional(arrays["planes"], arrays["signs"])

    def _model(self) -> str:
        return self._vectors.model

    def _probe(self) -> Float32[np.ndarray, " _"]:
        return self._vectors.probe

    def _width(self) -> int:
        return self.settings.width

    def _encode_passages(self, passages: Sequence[Passage]) -> Float32[np.ndarray, "passages width"]:
        parts = []
        for start in range(0, len(passages), _PASSAGES):
            tokens = self._vectors.of(passages[start : start + _PASSAGES], make_room=False)
            parts.append(self._encoding.of_passages([one.astype(np.float32) for one in tokens]))
        return np.concatenate(parts)

    def _encode_questions(self, texts: Sequence[str]) -> Float32[np.ndarray, "questions width"]:
        return self._encoding.of_questions(self._vectors.of_questions(texts))
