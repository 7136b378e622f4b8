"""The run's own retriever, opened by the first question or query that needs it.

In: a `Config`. Out: its retriever, open, and what queries find.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ragdro.config import Config
from ragdro.data.named import named_source
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.cache import cached_retriever
from ragdro.types import Candidates


class OwnRetriever:
    """A retriever that is not opened before something is searched for."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def retriever(self) -> Retriever[Any]:
        """It, open."""
        return retriever_of(self._config)

    def find(self, texts: Sequence[str], top_n: int) -> list[Candidates]:
        """What queries find."""
        return self.retriever.find(texts, top_n)


def retriever_of(config: Config) -> Retriever[Any]:
    """The config's retriever, open. Raises a `RagdroError` for what cannot be searched."""
    path = None if config.data.corpus is None else named_source(config.data.corpus, "data.corpus")
    return cached_retriever(path, config.retriever, Path(config.cache), fields=config.data.names)
