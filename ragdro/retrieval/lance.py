"""A LanceDB table of token vectors, for corpora too large to score passage by passage.

The index finds `overfetch` x top_n passages by approximate MaxSim; those are scored exactly and cut
to top_n. LanceDB trains its clusters from random state of its own, so two builds may differ in what
they miss; searches in one table do not differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64
from lancedb.index import IvfPq

from ragdro.config.indexes import LanceIndex
from ragdro.errors import RetrievalError
from ragdro.files import rename_durably
from ragdro.progress import track
from ragdro.retrieval.maxsim import TokenShard, max_sim_of
from ragdro.units import counted

TABLE, ROW, VECTORS = "passages", "row", "vectors"


def write_table(
    folder: Path, shards: Sequence[TokenShard], settings: LanceIndex, *, show_progress: bool
) -> None:
    """Write the table and its index from the finished shards; whole, or not under this name."""
    width, passages = shards[0].vectors.shape[1], sum(len(shard.lengths) for shard in shards)
    if width % settings.sub_vectors:
        raise RetrievalError(
            f"retriever.index.sub_vectors: {settings.sub_vectors} does not divide width {width}"
        )
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    table = lancedb.connect(str(partial)).create_table(TABLE, schema=_schema(width))
    for shard in track(shards, "writing table", total=len(shards), shown=show_progress):
        for batch in _batches(shard, width):
            table.add(batch)
    if passages >= settings.exact_below:
        config = IvfPq(
            distance_type="cosine",
            num_partitions=settings.partitions,
            num_sub_vectors=settings.sub_vectors,
            max_iterations=settings.training_rounds,
        )
        table.create_index(VECTORS, config=config, wait_timeout=timedelta(days=7))
    rename_durably(partial, folder)


class LanceTable:
    """A finished table, opened for searching."""

    def __init__(self, folder: Path, settings: LanceIndex) -> None:
        self._settings = settings
        self._table: Any = lancedb.connect(str(folder)).open_table(TABLE)

    def search(
        self, query: Float32[np.ndarray, "query_tokens width"], top_n: int
    ) -> tuple[Int64[np.ndarray, " choices"], Float32[np.ndarray, " choices"]]:
        """The best top_n rows and their exact MaxSim, best first; RetrievalError where fewer are found."""
        request = self._table.search(query, vector_column_name=VECTORS).distance_type("cosine")
        limit = top_n * self._settings.overfetch
        columns = [ROW, VECTORS, "_distance"]
        hits = request.nprobes(self._settings.probes).limit(limit).select(columns).to_arrow()
        if len(hits) < top_n:
            hint = "look into more of it (retriever.index.probes)"
            raise RetrievalError(
                f"the lance index gave {len(hits)} of top_n = {counted(top_n, 'passages')}: {hint}"
            )
        rows: Int64[np.ndarray, " hits"] = hits[ROW].to_numpy()
        vectors = hits[VECTORS].combine_chunks()
        lengths = vectors.value_lengths().to_numpy()
        flat = vectors.flatten().flatten().to_numpy().reshape(-1, query.shape[1]).astype(np.float32)
        scores = max_sim_of(query, flat, lengths)
        order = np.lexsort((rows, -scores))[:top_n]
        return rows[order], scores[order]


def _schema(width: int) -> pa.Schema:
    return pa.schema([(ROW, pa.int64()), (VECTORS, pa.list_(pa.list_(pa.float16(), width)))])


def _batches(shard: TokenShard, width: int) -> Iterator[pa.RecordBatch]:
    """The shard's passages as record batches of bounded size."""
    for passages, tokens in shard.chunks():
        offsets = np.concatenate([[0], np.cumsum(shard.lengths[passages])]).astype(np.int32)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(shard.vectors[tokens]).ravel()), width)
        rows = np.arange(shard.start + passages.start, shard.start + passages.stop, dtype=np.int64)
        vectors = pa.ListArray.from_arrays(pa.array(offsets), flat)
        yield pa.record_batch([pa.array(rows), vectors], schema=_schema(width))
