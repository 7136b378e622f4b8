"""Late interaction (ColBERT): one vector a token, searched exactly or through LanceDB.

    score(q, d) = sum over tokens i of q of max over tokens j of d of E(q)_i . E(d)_j       (MaxSim)

Encoding is the long part of a build: it writes a vectors file and then a lengths file a shard; a
restart does not redo a shard that has both. Vectors are unit-length, kept in float16 and scored in
float32.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Float32, Int64
from sentence_transformers import MultiVectorEncoder

from ragdro.config.indexes import LanceIndex
from ragdro.config.retriever import ColbertSettings
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file
from ragdro.progress import track
from ragdro.retrieval.base import RowRetriever
from ragdro.retrieval.encoders import (
    check_probe,
    check_projection,
    encode_tokens,
    load_token_encoder,
    passage_text,
    shard_starts,
    token_probe,
    write_probe,
)
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.retrieval.maxsim import TokenShard, max_sim
from ragdro.retrieval.ranking import top_rows
from ragdro.retrieval.store import PassageStore

if TYPE_CHECKING:
    from ragdro.retrieval.lance import LanceTable

SHARDS, TABLE, PROBE = "colbert-shards", "colbert-lance", "colbert-probe.npy"


class ColbertRetriever(RowRetriever[ColbertSettings]):
    """A MultiVectorEncoder over token vectors, scored by MaxSim."""

    batch_size: ClassVar[int] = 32

    _encoder: MultiVectorEncoder
    _shards: list[TokenShard]
    _table: LanceTable

    def fingerprint(self) -> str:
        return model_fingerprint(self.settings.model)

    def _build_index(self, store: PassageStore, folder: Path) -> None:
        if not (folder / TABLE).exists():
            (folder / SHARDS).mkdir(exist_ok=True)
            self._encode_shards(store, folder)
        if isinstance(self.settings.index, LanceIndex):
            if not (folder / TABLE).exists():
                from ragdro.retrieval.lance import write_table

                shards = self._open_shards(store, folder)
                write_table(folder / TABLE, shards, self.settings.index, show_progress=self.show_progress)
            shutil.rmtree(folder / SHARDS, ignore_errors=True)

    def _ranges(self, store: PassageStore) -> list[tuple[int, int]]:
        return list(shard_starts(len(store), self.settings.shard_size))

    def _open_shards(self, store: PassageStore, folder: Path) -> list[TokenShard]:
        return [TokenShard(folder / SHARDS, start) for start in TokenShard.starts(folder / SHARDS)]

    def _encode_shards(self, store: PassageStore, folder: Path) -> None:
        missing = [
            r for r in self._ranges(store) if not TokenShard.lengths_path(folder / SHARDS, r[0]).exists()
        ]
        if not missing:
            return
        encoder = load_token_encoder(self.settings)
        if self.settings.projection == "checkpoint":
            check_projection(encoder, self.settings)
        write_probe(folder / PROBE, token_probe(encoder))
        for start, stop in missing:
            passages = track(
                store.rows(start, stop), "encoding", total=len(store), done=start, shown=self.show_progress
            )
            texts = [passage_text(passage) for passage in passages]
            prompt = self.settings.passage_prompt
            vectors = encode_tokens(encoder.encode_document, texts, prompt, self.settings)
            for row, of_passage in enumerate(vectors, start=start):
                if not len(of_passage):
                    raise RetrievalError(f"the model gives passage {store[row].id!r} no token vector")
            with atomic_file(TokenShard.vectors_path(folder / SHARDS, start)) as file:
                np.save(file, np.concatenate(vectors).astype(np.float16))
            with atomic_file(TokenShard.lengths_path(folder / SHARDS, start)) as file:
                np.save(file, np.array([len(of_passage) for of_passage in vectors], dtype=np.int64))

    def _open_index(self, store: PassageStore, folder: Path) -> None:
        self._encoder = load_token_encoder(self.settings)
        check_probe(folder / PROBE, token_probe(self._encoder), self.settings.model)
        if isinstance(self.settings.index, LanceIndex):
            from ragdro.retrieval.lance import LanceTable

            self._table = LanceTable(folder / TABLE, self.settings.index)
        else:
            self._shards = self._open_shards(store, folder)

    def _rank_batch(
        self, texts: Sequence[str], top_n: int
    ) -> tuple[Int64[np.ndarray, "questions choices"], Float32[np.ndarray, "questions choices"]]:
        queries = encode_tokens(self._encoder.encode_query, texts, self.settings.query_prompt, self.settings)
        if isinstance(self.settings.index, LanceIndex):
            results = [self._table.search(query, top_n) for query in queries]
            return np.stack([rows for rows, _ in results]), np.stack([scores for _, scores in results])
        of_all = np.concatenate(
            [max_sim(queries, shard, self._encoder.device) for shard in self._shards], axis=1
        )
        rows = np.stack([top_rows(of_question, top_n) for of_question in of_all])
        return rows, np.take_along_axis(of_all, rows, axis=1)
