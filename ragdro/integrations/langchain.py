"""LangChain: a document compressor that reorders what a retriever found (extra `langchain`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from langchain_core.callbacks import Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, SecretStr

from ragdro.integrations.ranker import Ranker, open_ranker


class RagdroReranker(BaseDocumentCompressor):
    """`system`: a run or an exported folder, or the address of `ragdro serve`.

    The first `top_n` documents of the order are kept (None: all), each with `metadata["relevance_score"]`. A
    title is `metadata["title"]`.
    """

    model_config = ConfigDict(extra="forbid")

    system: str
    top_n: int | None = None
    api_key: SecretStr | None = None

    @cached_property
    def _ranker(self) -> Ranker:
        return open_ranker(
            self.system, api_key=None if self.api_key is None else self.api_key.get_secret_value()
        )

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Copies of the documents in the selector's order. Raises a `RagdroError`."""
        given = [(str(d.metadata.get("title") or ""), d.page_content) for d in documents]
        return [
            documents[index].model_copy(
                update={"metadata": {**documents[index].metadata, "relevance_score": score}}
            )
            for index, score in self._ranker.rank(query, given)[: self.top_n]
        ]
