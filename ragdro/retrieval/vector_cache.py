"""Vectors of passages, kept on disk: each is encoded once, whichever corpus or question it comes with.

In: keys made of a passage's text. Out: its vectors in float16, one a token (one in all, of a bi-encoder).
One SQLite file a model, shared by processes, and never larger than a budget: the oldest passages make room
for new ones. Nothing of it is held in memory beyond what is asked for.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np
from jaxtyping import Float16

from ragdro.errors import RetrievalError
from ragdro.units import as_bytes

_log = logging.getLogger(__name__)

_PAGE = 8192
"""Bytes of a page of the file."""
_OVERHEAD = 64
"""Bytes that a passage takes beside its vectors: key, index of keys, header of a row."""
_FIXED = 8 * _PAGE
"""Bytes of a file without a passage, and of the pages above the rows."""
_PART = 8
"""One part in so many goes at once, where room has to be made."""
_WAIT_SECONDS = 600.0
"""How long another process may write before this one gives up."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS passages
    (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vectors BLOB NOT NULL)
"""


def text_key(text: str) -> bytes:
    """What a passage's vectors are kept under: 128 bits of a hash of its text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class VectorCache:
    """The vectors of one model, `width` numbers each, in `file`, made when there is something to keep.

    RetrievalError names a file that is no such cache, or that cannot be written.
    """

    def __init__(self, file: Path, width: int, budget: int) -> None:
        self.file, self.width, self.budget = file, width, budget
        self._told = False

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float16[np.ndarray, "_ width"]]:
        """The vectors of those passages that are there."""
        if not self.file.exists():
            return {}
        vectors = {}
        with self._connection() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'passages'").fetchone() is None:
                return {}  # whatever made the file was killed there
            for key in keys:
                row = connection.execute("SELECT vectors FROM passages WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    vectors[key] = np.frombuffer(row[0], dtype=np.float16).reshape(-1, self.width)
        return vectors

    def add(self, vectors: Mapping[bytes, Float16[np.ndarray, "_ width"]], *, make_room: bool = True) -> None:
        """Keep the vectors of these passages, as many as fit the budget, or (without `make_room`) what is
        left of it; what is there already stays."""
        if not _fitting(vectors, self.budget - _FIXED):
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            room = self.budget - _FIXED - (0 if make_room else _used(connection))
            blobs = _fitting(vectors, room)
            if make_room:
                self._make_room(connection, sum(map(_bytes_of, blobs.values())))
            connection.executemany(
                "INSERT OR IGNORE INTO passages (key, vectors) VALUES (?, ?)", blobs.items()
            )
            connection.execute("COMMIT")

    def _make_room(self, connection: sqlite3.Connection, needed: int) -> None:
        while _used(connection) + needed + _FIXED > self.budget:
            (oldest, newest) = connection.execute("SELECT min(number), max(number) FROM passages").fetchone()
            if oldest is None:
                return
            if not self._told:
                self._told = True
                _log.warning(
                    "%s: the vectors of passages fill their %s; the oldest make room and are encoded again"
                    " when asked for (retriever.first_stage.cache_gb)",
                    self.file,
                    as_bytes(self.budget),
                )
            last = oldest + (newest - oldest) // _PART
            connection.execute("DELETE FROM passages WHERE number <= ?", (last,))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use, so that threads and forked processes may share the cache."""
        try:
            with closing(sqlite3.connect(self.file, timeout=_WAIT_SECONDS, isolation_level=None)) as opened:
                opened.execute(f"PRAGMA page_size = {_PAGE}")
                yield opened
        except sqlite3.Error as error:
            raise RetrievalError(
                f"{self.file}: the cache of passage vectors cannot be used ({error}); it holds nothing that"
                " cannot be encoded again: remove it, or set retriever.first_stage.cache_gb=0"
            ) from error


def _fitting(vectors: Mapping[bytes, Float16[np.ndarray, "_ width"]], budget: int) -> dict[bytes, bytes]:
    """The first of the vectors, as bytes, that take no more than the budget."""
    blobs, taken = {}, 0
    for key, of_passage in vectors.items():
        blob = of_passage.tobytes()
        taken += _bytes_of(blob)
        if taken > budget:
            break
        blobs[key] = blob
    return blobs


def _bytes_of(blob: bytes) -> int:
    """What a passage takes in the file at most: its last page may be empty but for a byte."""
    return len(blob) + _OVERHEAD + _PAGE


def _used(connection: sqlite3.Connection) -> int:
    """Bytes of the file's pages that hold something; the others are used again before it grows."""
    pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
    )
    return int(pages - free) * _PAGE
