"""A retriever over passages at hand, without a config file or a cache.

In: passages, the retriever's kind and settings. Out: an open retriever, its index in a folder that is there
for as long as this process lives, or in one of the caller's.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ragdro.retrieval import make_retriever, parse_settings
from ragdro.retrieval.base import Retriever
from ragdro.types import Passage


def retriever_over(
    passages: Iterable[Passage], kind: str = "bm25", *, folder: str | Path | None = None, **settings: Any
) -> Retriever[Any]:
    """A retriever of `kind` ('bm25', 'dense', 'colbert', 'hybrid') over `passages`, ready to `search`.

    `settings` are the kind's, as in a config's `retriever` section. `folder`: where the index is written
    (None: a temporary folder, removed when the process ends). Raises `ConfigError` for a setting that does
    not exist, `RetrievalError` for passages that cannot be indexed.
    """
    if folder is None:
        folder = tempfile.mkdtemp(prefix="ragdro-index-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    retriever = make_retriever(parse_settings({"kind": kind, **settings}))
    retriever.build(passages, Path(folder))
    retriever.open(Path(folder))
    return retriever
