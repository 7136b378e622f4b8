"""FAISS indexes of single vectors: made of parts on disk, opened for searching.

In: the settings of an index, vectors in parts. Out: an index file, whole or not there. A flat index and a
graph hold all vectors in memory while they are built. Codes are trained on a sample and made part by part.
Inverted lists of them (IVF-PQ) are merged on disk: no more than the sample, or one part, is in memory. Codes
alone (PQ) are merged in memory, and are there when they are searched; all else is memory-mapped.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from faiss.contrib.ondisk import merge_ondisk
from jaxtyping import Float32, Int64

from ragdro.config.indexes import FlatIndex, HnswIndex, IvfPqIndex, PqIndex
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file, rename_durably
from ragdro.units import counted

LISTS = ".ivfdata"
"""What the file of inverted lists is called after the index's own name."""
_CODES, _FEW_CODES = 256, 16
"""Of a byte and of four bits of a product quantiser; each needs a vector to be trained on."""

TrainedIndex = PqIndex | IvfPqIndex
IndexSettings = FlatIndex | TrainedIndex | HnswIndex


def check_index(settings: IndexSettings, width: int, passages: int, key: str) -> None:
    """RetrievalError for an index that vectors of this width, or so few of them, cannot have; `key` is where
    its settings stand."""
    if not isinstance(settings, TrainedIndex):
        return
    if isinstance(settings, PqIndex):
        name, divisor, least = "numbers_per_code", settings.numbers_per_code, _FEW_CODES
        needed = f"{_FEW_CODES} codes"
    else:
        name, divisor, least = "code_bytes", settings.code_bytes, max(settings.lists, _CODES)
        needed = f"{counted(settings.lists, 'lists')} and {_CODES} codes"
    if width % divisor:
        raise RetrievalError(f"{key}.{name}: {divisor} does not divide width {width}")
    sample = min(settings.training_passages, passages)
    if sample < least:
        raise RetrievalError(f"{key}: {needed} need at least {least:,} training passages, there are {sample}")


def write_whole(
    settings: FlatIndex | HnswIndex, parts: Iterable[Float32[np.ndarray, "_ width"]], width: int, target: Path
) -> None:
    """The index of all parts, in their order."""
    if isinstance(settings, HnswIndex):
        index: Any = faiss.IndexHNSWFlat(width, settings.neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings.ef_construction
    else:
        index = faiss.IndexFlatIP(width)
    for part in parts:
        index.add(np.ascontiguousarray(part))
    _write(index, target)


def write_trained(settings: TrainedIndex, sample: Float32[np.ndarray, "sample width"], target: Path) -> None:
    """The index, trained on the sample and empty."""
    width = sample.shape[1]
    if isinstance(settings, PqIndex):
        codes = width // settings.numbers_per_code
        index: Any = faiss.IndexPQFastScan(width, codes, 4, faiss.METRIC_INNER_PRODUCT)
        index.pq.cp.min_points_per_centroid = 1  # else a line a code where the corpus is small
    else:
        kind = f"IVF{settings.lists},PQ{settings.code_bytes}np"
        index = faiss.index_factory(width, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(np.ascontiguousarray(sample))
    _write(index, target)


def write_part(trained: Path, vectors: Float32[np.ndarray, "_ width"], start: int, target: Path) -> None:
    """The trained index with these vectors in it, whose rows begin at `start`."""
    index = faiss.read_index(str(trained))
    if isinstance(index, faiss.IndexIVF):
        rows: Int64[np.ndarray, " _"] = np.arange(start, start + len(vectors), dtype=np.int64)
        index.add_with_ids(np.ascontiguousarray(vectors), rows)
    else:
        index.add(np.ascontiguousarray(vectors))
    _write(index, target)


def merge_parts(trained: Path, parts: Sequence[Path], target: Path) -> None:
    """The codes of all parts as one, in their order; lists of them in a file beside the index's."""
    index = faiss.read_index(str(trained))
    if not isinstance(index, faiss.IndexIVF):
        for part in parts:
            index.merge_from(faiss.read_index(str(part)))
        _write(index, target)
        return
    lists = _lists_of(target)
    lists.unlink(missing_ok=True)
    try:
        with _stdout_on_stderr():
            merge_ondisk(index, [str(part) for part in parts], str(lists))
    except RuntimeError as error:
        raise RetrievalError(f"{lists}: the index cannot be written: {error}") from error
    _write(index, target)


def open_index(settings: IndexSettings, path: Path) -> Any:
    """The FAISS index, memory-mapped unless it is codes alone, to be searched as the settings say."""
    if not isinstance(settings, IvfPqIndex):
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        if isinstance(settings, HnswIndex):
            index.hnsw.efSearch = settings.ef_search
        return index
    if not _lists_of(path).exists():
        raise RetrievalError(
            f"{_lists_of(path)}: missing, or the index is of an earlier version; remove {path.parent} and"
            " build the index again"
        )
    index = faiss.read_index(str(path), faiss.IO_FLAG_SKIP_IVF_DATA | faiss.IO_FLAG_READ_ONLY)
    inverted: Any = faiss.extract_index_ivf(index)
    inverted.nprobe = settings.probes
    lists: Any = faiss.downcast_InvertedLists(inverted.invlists)
    lists.filename = str(_lists_of(path))  # beside the index, wherever both have been moved
    try:
        lists.do_mmap()
    except RuntimeError as error:
        raise RetrievalError(f"{lists.filename}: the index cannot be read: {error}") from error
    return index


def evenly_spaced(passages: int, most: int) -> Int64[np.ndarray, " sample"]:
    """At most so many rows, at equal distances: the same ones each time."""
    return np.unique(np.linspace(0, passages - 1, min(most, passages)).astype(np.int64))


class Sample:
    """Vectors of some rows, in parts on disk, so that neither is encoded twice nor all are in memory."""

    def __init__(self, rows: Int64[np.ndarray, " sample"], part: int, folder: Path) -> None:
        self.rows, self._part, self._folder = rows, part, folder

    def write(self, encode: Callable[[Sequence[int]], Float32[np.ndarray, "_ width"]]) -> None:
        """Encode the parts that are not there."""
        for path, rows in self._parts():
            if not path.exists():
                save_vectors(path, encode(rows.tolist()))

    def read(self) -> Float32[np.ndarray, "sample width"]:
        """All of it, in memory."""
        parts = [np.load(path, mmap_mode="r") for path, _ in self._parts()]
        whole = np.empty((len(self.rows), parts[0].shape[1]), dtype=np.float32)
        return np.concatenate(parts, out=whole)

    def between(
        self, start: int, stop: int
    ) -> tuple[Int64[np.ndarray, " _"], Float32[np.ndarray, "_ width"]]:
        """Those of rows start to stop - 1: the rows and their vectors."""
        first, last = np.searchsorted(self.rows, [start, stop])
        pieces = [
            np.load(path, mmap_mode="r")[max(first - begin, 0) : max(last - begin, 0)]
            for begin, (path, rows) in zip(range(0, len(self.rows), self._part), self._parts(), strict=True)
            if begin < last and begin + len(rows) > first
        ]
        return self.rows[first:last], np.concatenate(pieces) if pieces else np.empty((0, 0), np.float32)

    def _parts(self) -> list[tuple[Path, Int64[np.ndarray, " _"]]]:
        starts = range(0, len(self.rows), self._part)
        return [
            (self._folder / f"sample-{first:012d}.npy", self.rows[first : first + self._part])
            for first in starts
        ]


def save_vectors(path: Path, vectors: Float32[np.ndarray, "_ width"]) -> None:
    """Vectors as a file, whole or not there."""
    with atomic_file(path) as file:
        np.save(file, vectors)


def _lists_of(index: Path) -> Path:
    return index.with_name(index.name + LISTS)


@contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    """FAISS says on standard output what it does to a file; that is for a command's results alone."""
    sys.stdout.flush()
    kept, library = os.dup(1), ctypes.CDLL(None)
    os.dup2(2, 1)
    try:
        yield
    finally:
        library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _write(index: faiss.Index, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    try:
        faiss.write_index(index, str(partial))
    except RuntimeError as error:
        raise RetrievalError(f"{target}: the index cannot be written: {error}") from error
    rename_durably(partial, target)
