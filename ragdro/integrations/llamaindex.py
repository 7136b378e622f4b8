"""LlamaIndex: a node postprocessor that reorders what a retriever found (extra `llamaindex`)."""

from __future__ import annotations

from functools import cached_property

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from ragdro.errors import DataError
from ragdro.integrations.ranker import Ranker, open_ranker


class RagdroReranker(BaseNodePostprocessor):
    """`system`: a run or an exported folder, or the address of `ragdro serve`. The first `top_n` nodes of the
    order are kept (None: all), each with its `score`. A title is `metadata["title"]`."""

    system: str
    top_n: int | None = None
    api_key: str | None = Field(default=None, exclude=True, repr=False)

    @cached_property
    def _ranker(self) -> Ranker:
        return open_ranker(self.system, api_key=self.api_key)

    @classmethod
    def class_name(cls) -> str:
        """The name in saved pipelines."""
        return "RagdroReranker"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise DataError("query_bundle: reranking needs a query")
        given = [
            (str(n.node.metadata.get("title") or ""), n.node.get_content(MetadataMode.NONE)) for n in nodes
        ]
        order = self._ranker.rank(query_bundle.query_str, given)[: self.top_n]
        return [NodeWithScore(node=nodes[index].node, score=score) for index, score in order]
