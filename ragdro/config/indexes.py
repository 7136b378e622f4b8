"""How vectors are searched: the `index:` part of a retriever's settings. Imports no heavy library."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ragdro.config.base import Settings
from ragdro.config.changes import Changes


class FlatIndex(Settings):
    """Exact inner-product search."""

    type: Literal["flat"] = "flat"


class IvfPqIndex(Settings):
    """Inverted lists over product-quantised vectors, built and searched on disk: small, fast, approximate."""

    type: Literal["ivfpq"] = "ivfpq"
    lists: int = Field(default=4096, ge=1, description="inverted lists (about 4 to 16 times sqrt(passages))")
    probes: Annotated[int, Changes.CANDIDATES] = Field(
        default=64, ge=1, description="lists looked into per question"
    )
    code_bytes: int = Field(default=64, ge=1, description="bytes per vector; must divide the vector's width")
    training_passages: int = Field(
        default=500_000, ge=1, description="most vectors the quantiser is trained on"
    )


class MuveraIvfPqIndex(IvfPqIndex):
    """Inverted lists whose centres say little of a question's vector, which is a sum where a passage's is a
    mean: many lists have to be looked into."""

    probes: Annotated[int, Changes.CANDIDATES] = Field(
        default=1024, ge=1, description="lists looked into per question (a quarter of them at least)"
    )
    code_bytes: int = Field(
        default=1280, ge=1, description="bytes per vector, one for eight numbers; must divide its width"
    )


class PqIndex(Settings):
    """Product-quantised vectors without lists: all codes are in memory and looked at, 32 at once."""

    type: Literal["pq"] = "pq"
    numbers_per_code: int = Field(
        default=4, ge=1, description="numbers that four bits stand for; must divide the vector's width"
    )
    training_passages: ClassVar[int] = 4_096
    """As many as FAISS looks at to choose sixteen codes."""


class HnswIndex(Settings):
    """A navigable small-world graph: fast, approximate, large."""

    type: Literal["hnsw"] = "hnsw"
    neighbours: int = Field(default=32, ge=2, description="edges per vector")
    ef_construction: int = Field(default=200, ge=1, description="candidates looked at per inserted vector")
    ef_search: Annotated[int, Changes.CANDIDATES] = Field(
        default=128, ge=1, description="candidates looked at per question"
    )


class FaissSettings(Settings):
    """Single vectors, searched with FAISS."""

    shard_size: Annotated[int, Changes.RESTARTS] = Field(
        default=50_000, ge=1, description="passages encoded between two restart points"
    )
    index: FlatIndex | PqIndex | IvfPqIndex | HnswIndex = Field(
        default_factory=FlatIndex, discriminator="type", description="the FAISS index"
    )


class ExactMaxSim(Settings):
    """Every passage scored: for corpora up to some hundred thousand passages."""

    type: Literal["exact"] = "exact"


class LanceIndex(Settings):
    """A LanceDB multi-vector table: for large corpora, approximate once it has more than `exact_below`."""

    type: Literal["lance"] = "lance"
    partitions: int = Field(default=256, ge=1, description="inverted lists of the index")
    sub_vectors: int = Field(
        default=16, ge=1, description="product-quantiser parts; must divide the vector's width"
    )
    probes: Annotated[int, Changes.CANDIDATES] = Field(
        default=32, ge=1, description="lists looked into per query token"
    )
    overfetch: Annotated[int, Changes.CANDIDATES] = Field(
        default=5, ge=1, description="hits fetched per wanted one, re-scored with exact MaxSim before the cut"
    )
    training_rounds: int = Field(
        default=20, ge=1, description="most k-means rounds when clusters are trained"
    )
    exact_below: int = Field(
        default=5_000, ge=0, description="tables with fewer passages are scanned instead of indexed"
    )
