"""Haystack: a ranker component (extra `haystack`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.utils import Secret

from ragdro.errors import ConfigError
from ragdro.integrations.ranker import Ranker, open_ranker


@component
class RagdroRanker:
    """`system`: a run or an exported folder, or the address of `ragdro serve`. The first `top_k` documents of
    the order are kept (None: all), each with its `score`. A title is `meta["title"]`."""

    def __init__(self, system: str, top_k: int | None = None, api_key: Secret | None = None) -> None:
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top_k: must be at least 1, is {top_k}")
        self.system = system
        self.top_k = top_k
        self.api_key = api_key
        self._ranker: Ranker | None = None

    def warm_up(self) -> None:
        """Load the models (nothing for an address). Raises a `RagdroError` for what cannot be loaded."""
        if self._ranker is None:
            key = None if self.api_key is None else self.api_key.resolve_value()
            self._ranker = open_ranker(self.system, api_key=key)

    @component.output_types(documents=list[Document])
    def run(self, query: str, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Copies of the documents in the selector's order; `top_k` replaces the component's own."""
        self.warm_up()
        assert self._ranker is not None
        given = [(str(d.meta.get("title") or ""), d.content or "") for d in documents]
        order = self._ranker.rank(query, given)[: self.top_k if top_k is None else top_k]
        return {"documents": [replace(documents[index], score=score) for index, score in order]}

    def to_dict(self) -> dict[str, Any]:
        """For saved pipelines; a key is saved as the name of its variable."""
        key = None if self.api_key is None else self.api_key.to_dict()
        values: dict[str, Any] = default_to_dict(self, system=self.system, top_k=self.top_k, api_key=key)
        return values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RagdroRanker:
        """The inverse of `to_dict`."""
        parameters = data["init_parameters"]
        if isinstance(parameters.get("api_key"), dict):
            parameters["api_key"] = Secret.from_dict(parameters["api_key"])
        made: RagdroRanker = default_from_dict(cls, data)
        return made
