"""Token ids of texts, made once by one process and memory-mapped by all: no step waits for a tokenizer.

In: `TextTokenizer`s and the texts of a run. Each is stored as it is tokenised on a line of its own, which
is how it stands in a prompt wherever its tokens do not depend on the rest. Out: folders
`CACHE/tokens/<digest>/`, named by what the tokenizer does and which texts it holds, and a `TokenStore` over
one: `ids.npy` [tokens] with all ids one behind another, `offsets.npy` [texts + 1], and `keys.npy` [2, texts]:
both halves of the sorted digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ragdro.files import atomic_file, atomic_folder
from ragdro.lm.tokens import TextTokenizer

FILES = ("keys.npy", "offsets.npy", "ids.npy")
_AT_ONCE = 16_384
"""Texts that a tokenizer takes at once."""


class TokenStore:
    """Looks texts up in a folder that `token_stores` made; holds nothing in memory itself."""

    def __init__(self, folder: Path) -> None:
        self._ids, self._offsets = _mapped(folder / "ids.npy"), _mapped(folder / "offsets.npy")
        self._first, self._second = _mapped(folder / "keys.npy")

    def get(self, text: str) -> list[int] | None:
        """The ids of `text` on a line of its own (none where they depend on the place), None where the store
        has not got it."""
        first, second = _key(text)
        row = int(self._first.searchsorted(np.uint64(first)))
        while row < len(self._first) and self._first[row] == first:
            if self._second[row] == second:
                return list(self._ids[self._offsets[row] : self._offsets[row + 1]].tolist())
            row += 1
        return None


def token_stores(tokenizers: Sequence[TextTokenizer], texts: Iterable[str], cache: Path) -> list[Path]:
    """The folder under `cache` with these texts' ids by each of the tokenizers, made now if it is not there.
    Raises what tokenising does."""
    keyed = sorted({_key(text): text for text in texts}.items())
    keys = np.array([key for key, _ in keyed], np.uint64).reshape(-1, 2).T
    keys = keys.copy()  # A search wants its row in one piece.
    folders = []
    for tokenizer in tokenizers:
        digest = hashlib.sha256(b"lines " + tokenizer.fingerprint + keys.tobytes()).hexdigest()[:24]
        folder = cache / "tokens" / digest
        if not folder.exists():
            with atomic_folder(folder) as making:
                _write(making, keys, _lines(tokenizer, [text for _, text in keyed]))
        folders.append(folder)
    return folders


def _mapped(path: Path) -> NDArray[Any]:
    """The array of a file, as plain as one in memory: each piece of a `memmap` costs microseconds."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _lines(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[NDArray[np.int32]]:
    parts = (texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE))
    return [np.array(ids, np.int32) for part in parts for ids in tokenizer.lines(part)]


def _write(folder: Path, keys: NDArray[np.uint64], ids: Sequence[NDArray[np.int32]]) -> None:
    offsets = np.cumsum([0, *map(len, ids)])
    _write_array(folder / "keys.npy", np.uint64, keys.shape, [keys])
    _write_array(folder / "offsets.npy", np.int64, offsets.shape, [offsets])
    _write_array(folder / "ids.npy", np.int32, (int(offsets[-1]),), ids)


def _write_array(path: Path, kind: type, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """An array of this shape from its pieces, one behind another."""
    with atomic_file(path) as file:
        # Not np.save: it loses what the system says where the disk refuses.
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(piece.astype(kind, copy=False).tobytes())


def _key(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
