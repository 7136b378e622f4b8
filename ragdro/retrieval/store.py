"""The passages of an index, once, on disk: JSON lines with an array of offsets, memory-mapped.

In: a stream of passages. Out: three files in a folder, of which the offsets are written last, so that
a killed write is never mistaken for a whole store:

    passages.jsonl         one {"id", "title", "text"} a line (and "gold", "source" where known)
    passages.ids.npy       uint64[2, passages]: hashes of the ids in ascending order, and their rows
    passages.offsets.npy   uint64[passages + 1]: where each line starts, and the end of the last
"""

from __future__ import annotations

import json
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt64

from ragdro.data.own import passage_source, source_object
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file, rename_durably
from ragdro.types import Passage
from ragdro.units import counted

LINES, IDS, OFFSETS = "passages.jsonl", "passages.ids.npy", "passages.offsets.npy"
FILES = (LINES, IDS, OFFSETS)


class PassageStore:
    """Random access to the passages of a folder; holds open memory maps, and nothing else, in memory."""

    def __init__(self, folder: Path) -> None:
        """Open a finished store; RetrievalError if it is missing, unfinished or cut short."""
        self.folder = folder
        lines = folder / LINES
        try:
            # as plain arrays: each piece of a `memmap` costs microseconds
            offsets, ids = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in (OFFSETS, IDS))
            self._offsets: UInt64[np.ndarray, " boundaries"] = offsets
            self._ids: UInt64[np.ndarray, "two passages"] = ids
            with lines.open("rb") as file:
                self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise RetrievalError(f"{folder}: no whole passage store here ({error})") from error
        if int(self._offsets[-1]) != len(self._lines) or self._ids.shape[1] != len(self):
            raise RetrievalError(
                f"{lines}: {counted(len(self._lines), 'bytes')}, not the {int(self._offsets[-1]):,} indexed"
            )

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: int) -> Passage:
        """The passage of a 0-based row; IndexError past the end."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {counted(len(self), 'passages')}")
        return decode_passage(json.loads(self._lines[int(self._offsets[row]) : int(self._offsets[row + 1])]))

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[Passage]:
        """The passages of rows start..stop-1, in order."""
        for row in range(start, len(self) if stop is None else min(stop, len(self))):
            yield self[row]

    def row_of(self, passage_id: str) -> int | None:
        """The row of the passage with this id; None if there is none."""
        hashed = _hash_id(passage_id)
        place = int(np.searchsorted(self._ids[0], np.uint64(hashed)))
        while place < len(self) and int(self._ids[0, place]) == hashed:
            row = int(self._ids[1, place])
            if self[row].id == passage_id:
                return row
            place += 1
        return None


def write_store(corpus: Iterable[Passage], folder: Path) -> PassageStore:
    """Write the passages into the folder (which exists) and open them; memory stays at 16 bytes a passage.

    RetrievalError for an empty corpus or an id that occurs twice; errors of the stream pass through.
    """
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    partial = folder / f"{LINES}.partial"
    offsets, ids, position = array("Q", [0]), array("Q"), 0
    with partial.open("wb") as file:
        for passage in corpus:
            line = (
                json.dumps(encode_passage(passage), ensure_ascii=False).encode("utf-8", "surrogatepass")
                + b"\n"
            )
            position += file.write(line)
            offsets.append(position)
            ids.append(_hash_id(passage.id))
        file.flush()
        os.fsync(file.fileno())
    if not ids:
        partial.unlink()
        raise RetrievalError("the corpus holds no passage: nothing to index")
    hashes = np.frombuffer(ids, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    _refuse_duplicates(hashes, order, np.frombuffer(offsets, dtype=np.uint64), partial)
    rename_durably(partial, folder / LINES)
    with atomic_file(folder / IDS) as file:
        np.save(file, np.stack([hashes[order], order.astype(np.uint64)]))
    with atomic_file(folder / OFFSETS) as file:
        np.save(file, np.frombuffer(offsets, dtype=np.uint64))
    return PassageStore(folder)


def _refuse_duplicates(
    hashes: UInt64[np.ndarray, " passages"],
    order: Int64[np.ndarray, " passages"],
    offsets: UInt64[np.ndarray, " boundaries"],
    lines: Path,
) -> None:
    """RetrievalError for the first id that two rows share; equal hashes of different ids are fine."""
    ranked = hashes[order]
    with lines.open("rb") as file:
        for place in np.flatnonzero(ranked[1:] == ranked[:-1]):
            pair = sorted((int(order[place]), int(order[place + 1])))
            ids = []
            for row in pair:
                file.seek(int(offsets[row]))
                ids.append(json.loads(file.readline())["id"])
            if ids[0] == ids[1]:
                numbers = f"{pair[0] + 1} and {pair[1] + 1}"
                raise RetrievalError(f"the corpus holds the passage id {ids[0]!r} twice: passages {numbers}")


def encode_passage(passage: Passage) -> dict[str, Any]:
    """A passage as JSON values; `gold` and `source` only where they are known."""
    values: dict[str, Any] = {"id": passage.id, "title": passage.title, "text": passage.text}
    if passage.gold is not None:
        values["gold"] = passage.gold
    if passage.source is not None:
        values["source"] = source_object(passage.source)
    return values


def decode_passage(values: dict[str, Any]) -> Passage:
    """The inverse of `encode_passage`; KeyError where a field is missing."""
    gold, source = values.get("gold"), passage_source(values.get("source"))
    return Passage(values["id"], values["title"], values["text"], gold, source)


def _hash_id(passage_id: str) -> int:
    return int.from_bytes(
        blake2b(passage_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )
