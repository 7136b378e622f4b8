"""The `retriever:` section."""

from ragdro.retrieval.settings import Bm25Settings, RetrieverSettings

__all__ = ["Bm25Settings", "RetrieverSettings"]
