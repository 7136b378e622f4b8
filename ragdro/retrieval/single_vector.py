"""What retrievers with one vector a passage have in common: encoded in parts, searched with FAISS.

A kind of its own supplies the vectors of passages and of questions. Encoding is the long part of a build: it
writes a file a part, which a restart does not redo. Flat search is exact; IVF-PQ and HNSW are approximate and
depend on no random state of the process.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from ragdro.config.indexes import FaissSettings
from ragdro.config.retriever import FirstStage
from ragdro.errors import RetrievalError
from ragdro.progress import track
from ragdro.retrieval.base import RowRetriever
from ragdro.retrieval.encoders import check_probe, shard_starts, write_probe
from ragdro.retrieval.faiss_index import (
    Sample,
    TrainedIndex,
    check_index,
    evenly_spaced,
    merge_parts,
    open_index,
    save_vectors,
    write_part,
    write_trained,
    write_whole,
)
from ragdro.retrieval.store import PassageStore
from ragdro.types import Passage
from ragdro.units import counted

INDEX, SHARDS, PROBE = "dense.faiss", "dense-shards", "dense-probe.npy"

Searched = TypeVar("Searched", bound=FaissSettings)


class SingleVectorRetriever(RowRetriever[Searched]):
    """One vector a passage over a FAISS index."""

    batch_size: ClassVar[int] = 256

    _index: faiss.Index

    @abstractmethod
    def _probe(self) -> Float32[np.ndarray, " _"]:
        """What shows, on opening, whether the same weights are loaded."""

    @abstractmethod
    def _width(self) -> int:
        """Numbers of a vector."""

    @abstractmethod
    def _model(self) -> str:
        """What the settings call the weights."""

    def _key(self) -> str:
        """Where the settings of the index stand."""
        place = "retriever.first_stage" if isinstance(self.settings, FirstStage) else "retriever"
        return f"{place}.index"

    @abstractmethod
    def _encode_passages(self, passages: Sequence[Passage]) -> Float32[np.ndarray, "passages width"]:
        """The vector of each passage."""

    @abstractmethod
    def _encode_questions(self, texts: Sequence[str]) -> Float32[np.ndarray, "questions width"]:
        """The vector of each question."""

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        shards = folder / SHARDS
        shards.mkdir(exist_ok=True)
        if not (folder / INDEX).exists():
            check_index(self.settings.index, self._width(), len(store), self._key())
            write_probe(folder / PROBE, self._probe())
            if isinstance(self.settings.index, TrainedIndex):
                self._build_trained(self.settings.index, store, shards, folder / INDEX)
            else:
                self._build_whole(store, shards, folder / INDEX)
        shutil.rmtree(shards)

    def _build_whole(self, store: PassageStore, shards: Path, target: Path) -> None:
        assert not isinstance(self.settings.index, TrainedIndex)
        paths = []
        for start, stop in shard_starts(len(store), self.settings.shard_size):
            paths.append(shards / f"{start:012d}.npy")
            if not paths[-1].exists():
                save_vectors(paths[-1], self._encode(store, range(start, stop), "encoding", start))
        parts = (np.load(path, mmap_mode="r") for path in paths)
        shown = track(parts, "indexing", total=len(paths), shown=self.show_progress)
        write_whole(self.settings.index, shown, self._width(), target)

    def _build_trained(self, settings: TrainedIndex, store: PassageStore, shards: Path, target: Path) -> None:
        """The index is trained on a sample, and filled with one part of the corpus after the other."""
        rows, trained = evenly_spaced(len(store), settings.training_passages), shards / "trained.faiss"
        sample = Sample(rows, self.settings.shard_size, shards)
        sample.write(lambda part: self._encode(store, part, "encoding a sample", None))
        if not trained.exists():
            write_trained(settings, sample.read(), trained)
        parts = []
        for start, stop in shard_starts(len(store), self.settings.shard_size):
            parts.append(shards / f"{start:012d}.faiss")
            if not parts[-1].exists():
                write_part(trained, self._with_sample(store, start, stop, sample), start, parts[-1])
        merge_parts(trained, parts, target)

    def _with_sample(
        self, store: PassageStore, start: int, stop: int, sample: Sample
    ) -> Float32[np.ndarray, "_ width"]:
        """The vectors of rows start to stop - 1; what is in the sample is not encoded again."""
        known, vectors = sample.between(start, stop)
        missing = np.setdiff1d(np.arange(start, stop), known, assume_unique=True)
        out = np.empty((stop - start, self._width()), dtype=np.float32)
        if len(known):
            out[known - start] = vectors
        if len(missing):
            out[missing - start] = self._encode(store, missing.tolist(), "encoding", start)
        return out

    def _encode(
        self, store: PassageStore, rows: Sequence[int], doing: str, done: int | None
    ) -> Float32[np.ndarray, "_ width"]:
        passages = (store[row] for row in rows)
        total, before = (len(rows), 0) if done is None else (len(store), done)
        shown = track(passages, doing, total=total, done=before, shown=self.show_progress)
        return self._encode_passages(list(shown))

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        check_probe(folder / PROBE, self._probe(), self._model())
        self._index = open_index(self.settings.index, folder / INDEX)

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        scores, rows = self._index.search(self._encode_questions(texts), top_n)
        if (rows < 0).any():
            least = int((rows >= 0).sum(axis=1).min())
            raise RetrievalError(
                f"the {self.settings.index.type} index gave {least} of {counted(top_n, 'passages')}:"
                f" look into more of it ({self._key()}.probes or ef_search)"
            )
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
