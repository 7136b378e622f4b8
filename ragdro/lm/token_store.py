"""Token ids of texts, made once and memory-mapped, so that no step waits for a tokenizer.

In: a `TextTokenizer` and the texts of a run. Each is stored as it is tokenised on a line of its own, which
is how it stands in a prompt wherever its tokens do not depend on the rest. Out: a folder
`CACHE/tokens/<digest>/`, named by what the tokenizer does and which texts it holds, and a `TokenStore` over
it: `ids.npy` [tokens] with all ids one behind another, `offsets.npy` [texts + 1], and `keys.npy` [2, texts]:
both halves of the sorted digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ragdro.files import atomic_file, atomic_folder
from ragdro.lm.tokens import TextTokenizer


class TokenStore:
    """Looks texts up in a folder that `token_store` made; holds nothing in memory itself."""

    def __init__(self, folder: Path) -> None:
        self._ids = np.load(folder / "ids.npy", mmap_mode="r")
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        self._keys = np.load(folder / "keys.npy", mmap_mode="r")

    def get(self, text: str) -> list[int] | None:
        """The ids of `text` on a line of its own (none where they depend on the place), None where the store
        has not got it."""
        first, second = np.array(_key(text), np.uint64)
        row = int(np.searchsorted(self._keys[0], first))
        while row < self._keys.shape[1] and self._keys[0, row] == first:
            if self._keys[1, row] == second:
                return list(self._ids[self._offsets[row] : self._offsets[row + 1]].tolist())
            row += 1
        return None


def token_store(tokenizer: TextTokenizer, texts: Iterable[str], cache: Path) -> TokenStore:
    """The store of these texts under `cache`, made now if it is not there. Raises what tokenising does."""
    keyed = sorted({_key(text): text for text in texts}.items())
    keys = np.array([key for key, _ in keyed], np.uint64).reshape(-1, 2).T
    keys = keys.copy()  # A search wants its row in one piece.
    digest = hashlib.sha256(b"lines " + tokenizer.fingerprint + keys.tobytes()).hexdigest()[:24]
    folder = cache / "tokens" / digest
    if not folder.exists():
        with atomic_folder(folder) as making:
            _write(making, keys, [np.array(tokenizer.line(text), np.int32) for _, text in keyed])
    return TokenStore(folder)


def _write(folder: Path, keys: NDArray[np.uint64], ids: list[NDArray[np.int32]]) -> None:
    arrays = {
        "keys": keys,
        "offsets": np.cumsum([0, *map(len, ids)]),
        "ids": np.concatenate([np.empty(0, np.int32), *ids]),
    }
    for name, array in arrays.items():
        with atomic_file(folder / f"{name}.npy") as file:
            # Not np.save: it loses what the system says where the disk refuses.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
            file.write(array.tobytes())


def _key(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
