"""Files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

from ragdro.retrieval.atomic import atomic_file


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` (UTF-8) in one step."""
    with atomic_file(path, "w") as file:
        file.write(text)
