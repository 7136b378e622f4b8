"""Dense retrieval: one vector a passage by a bi-encoder, inner-product search with FAISS.

    score(q, d) = E(q) . E(d)          (the cosine, with `normalise`)

E is the model's method for questions and for passages: the prompts and routes of the checkpoint apply, and
the settings' prompts in place of its own.
Encoding is the long part of a build: it writes one file a shard, which a restart does not redo. The
FAISS index is then made of the shards, written whole, and memory-mapped when opened. Flat search is
exact; IVF-PQ and HNSW are approximate and depend on no random state of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from jaxtyping import Float32, Int64
from sentence_transformers import SentenceTransformer

from ragdro.config.indexes import HnswIndex, IvfPqIndex
from ragdro.config.retriever import DenseVectors
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file, rename_durably
from ragdro.progress import track
from ragdro.retrieval.base import RowRetriever
from ragdro.retrieval.encoders import (
    bi_probe,
    check_probe,
    encode_texts,
    load_bi_encoder,
    passage_text,
    shard_starts,
    write_probe,
)
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.retrieval.store import PassageStore
from ragdro.units import counted

INDEX, SHARDS, PROBE = "dense.faiss", "dense-shards", "dense-probe.npy"


class DenseRetriever(RowRetriever[DenseVectors]):
    """A sentence-transformers bi-encoder over a FAISS index."""

    batch_size: ClassVar[int] = 256

    _encoder: SentenceTransformer
    _index: faiss.Index

    def fingerprint(self) -> str:
        return model_fingerprint(self.settings.model)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        shards = folder / SHARDS
        shards.mkdir(exist_ok=True)
        if not (folder / INDEX).exists():
            self._encode_shards(store, folder)
            self._write_index(sorted(shards.glob("*.npy")), folder / INDEX)
        for path in shards.iterdir():
            path.unlink()
        shards.rmdir()

    def _encode_shards(self, store: PassageStore, folder: Path) -> None:
        encoder = load_bi_encoder(self.settings)
        write_probe(folder / PROBE, bi_probe(encoder))
        for start, stop in shard_starts(len(store), self.settings.shard_size):
            path = folder / SHARDS / f"{start:012d}.npy"
            if path.exists():
                continue
            passages = track(
                store.rows(start, stop), "encoding", total=len(store), done=start, shown=self.show_progress
            )
            texts = [passage_text(passage) for passage in passages]
            prompt = self.settings.passage_prompt
            vectors = encode_texts(encoder.encode_document, texts, prompt, self.settings)
            with atomic_file(path) as file:
                np.save(file, vectors)

    def _write_index(self, shards: Sequence[Path], target: Path) -> None:
        vectors = [np.load(shard, mmap_mode="r") for shard in shards]
        index = _empty_index(self.settings, vectors)
        for block in track(vectors, "indexing", total=len(vectors), shown=self.show_progress):
            index.add(np.ascontiguousarray(block))
        partial = target.with_name(target.name + ".partial")
        try:
            faiss.write_index(index, str(partial))
        except RuntimeError as error:
            raise RetrievalError(f"{target}: the index cannot be written: {error}") from error
        rename_durably(partial, target)

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._encoder = load_bi_encoder(self.settings)
        check_probe(folder / PROBE, bi_probe(self._encoder), self.settings.model)
        self._index = faiss.read_index(str(folder / INDEX), faiss.IO_FLAG_MMAP_IFC)
        match self.settings.index:
            case IvfPqIndex(probes=probes):
                faiss.extract_index_ivf(self._index).nprobe = probes
            case HnswIndex(ef_search=ef_search):
                graph: Any = self._index
                graph.hnsw.efSearch = ef_search

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        asked = encode_texts(self._encoder.encode_query, texts, self.settings.query_prompt, self.settings)
        scores, rows = self._index.search(asked, top_n)
        if (rows < 0).any():
            least = int((rows >= 0).sum(axis=1).min())
            raise RetrievalError(
                f"the {self.settings.index.type} index gave {least} of top_n = {counted(top_n, 'passages')}: "
                "look into more of it (retriever.index.probes or ef_search)"
            )
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def _empty_index(settings: DenseVectors, shards: Sequence[Float32[np.ndarray, "_ width"]]) -> faiss.Index:
    """The index of the settings, trained where it needs that, without a vector in it."""
    width, passages = shards[0].shape[1], sum(len(shard) for shard in shards)
    match settings.index:
        case HnswIndex(neighbours=neighbours, ef_construction=ef_construction):
            graph = faiss.IndexHNSWFlat(width, neighbours, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = ef_construction
            return graph
        case IvfPqIndex(lists=lists, code_bytes=code_bytes, training_passages=most):
            if width % code_bytes:
                raise RetrievalError(
                    f"retriever.index.code_bytes: {code_bytes} does not divide width {width}"
                )
            sample = _evenly_spaced(shards, min(most, passages))
            if len(sample) < max(lists, 256):
                needed = f"{counted(lists, 'lists')} and 256 codes need at least {max(lists, 256):,}"
                raise RetrievalError(f"retriever.index: {needed} training passages, there are {len(sample)}")
            inverted = faiss.index_factory(width, f"IVF{lists},PQ{code_bytes}np", faiss.METRIC_INNER_PRODUCT)
            inverted.train(sample)
            return inverted
        case _:
            return faiss.IndexFlatIP(width)


def _evenly_spaced(
    shards: Sequence[Float32[np.ndarray, "_ width"]], count: int
) -> Float32[np.ndarray, "sample width"]:
    """`count` vectors at equal distances over all shards: the same ones each time."""
    starts = np.cumsum([0, *(len(shard) for shard in shards)])
    rows = np.linspace(0, starts[-1] - 1, count).astype(np.int64)
    parts = [
        np.asarray(shard[rows[(rows >= start) & (rows < start + len(shard))] - start])
        for shard, start in zip(shards, starts[:-1], strict=True)
    ]
    return np.ascontiguousarray(np.concatenate(parts))
