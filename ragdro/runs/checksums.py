"""Checksums of a run's files: of several processes each reads some of the bytes.

In: paths. Out: the SHA-256 of each, in all processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ragdro.parallel.world import all_gather_object, balanced, broadcast_from_rank0, rank, visible


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_hashes(paths: Sequence[Path]) -> dict[Path, str]:
    """The SHA-256 of each file. All processes ask for the same ones; each reads about as many bytes."""
    readers = broadcast_from_rank0(lambda: balanced([path.stat().st_size for path in paths]))
    own = {i: file_hash(visible(paths[i])) for i, reader in enumerate(readers) if reader == rank()}
    hashes = {i: digest for part in all_gather_object(own) for i, digest in part.items()}
    return {path: hashes[i] for i, path in enumerate(paths)}
