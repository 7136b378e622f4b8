"""Passages that a database keeps: `retriever: {kind: postgres}` and `{kind: qdrant}`. No library is loaded.

No setting holds a secret: a password or a key is `$NAME`, taken from that environment variable.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ragdro.config.base import FROM_ENVIRONMENT, URL, Settings
from ragdro.config.changes import Changes
from ragdro.config.encoder import BiEncoderSettings, TokenEncoderSettings
from ragdro.config.http import Patience

_SECRET = re.compile(r"^\w+://[^/?#]*:[^/?#@]+@|(^|[?&\s])(ssl)?password\s*=", re.IGNORECASE)

_Name = Annotated[str, Field(pattern=r"^[^%\x00]+$")]
"""A name in a database; psycopg takes a per cent sign for a value's place."""

_WEIGHT = "weight of this ranking where several are fused"


class ExactScan(Settings):
    """Every vector compared: exact, for up to some hundred thousand passages."""

    type: Literal["exact"] = "exact"


class GraphIndex(Settings):
    """pgvector's HNSW graph: fast and approximate."""

    type: Literal["hnsw"] = "hnsw"
    neighbours: int = Field(default=16, ge=2, le=100, description="edges per vector")
    ef_construction: int = Field(
        default=128, ge=4, le=1000, description="candidates looked at per inserted vector"
    )
    ef_search: Annotated[int, Changes.CANDIDATES] = Field(
        default=128, ge=1, le=1000, description="candidates looked at per question"
    )


class Columns(Settings):
    """What the table calls the parts of a passage."""

    id: _Name = Field(default="id", description="column of the passage's id; any type, read as text")
    title: _Name | None = Field(default="title", description="column of the title; null where there is none")
    text: _Name = Field(default="text", description="column of the text")
    source: _Name | None = Field(
        default="source",
        description="column of where a passage is from: JSON of `ragdro ingest`, or a name; null for none",
    )


class FullText(Settings):
    """PostgreSQL's full text: the passages that share a word with the question, best first."""

    language: str = Field(default="english", description="text search configuration (stemming, stop words)")
    column: _Name | None = Field(
        default="text_search",
        description="column of type tsvector; null: made of title and text at each search, without an index",
    )
    rank: Annotated[Literal["ts_rank", "ts_rank_cd"], Changes.CANDIDATES] = Field(
        default="ts_rank", description="by the words found, or by how close together they stand (ts_rank_cd)"
    )
    normalisation: Annotated[int, Changes.CANDIDATES] = Field(
        default=0, ge=0, le=63, description="what PostgreSQL does for a passage's length: 0 nothing, 1 log"
    )
    weight: Annotated[float, Changes.CANDIDATES] = Field(default=1.0, gt=0, description=_WEIGHT)


class PgVectors(BiEncoderSettings):
    """One vector a passage, in a column of pgvector's type `vector` or `halfvec`."""

    column: _Name = Field(default="embedding", description="column of the vectors")
    distance: Literal["cosine", "inner_product"] = Field(
        default="cosine", description="what makes two vectors near"
    )
    index: ExactScan | GraphIndex = Field(
        default_factory=ExactScan, discriminator="type", description="how vectors are searched"
    )
    weight: Annotated[float, Changes.CANDIDATES] = Field(default=1.0, gt=0, description=_WEIGHT)


class _Fused(Patience):
    """Several rankings of one store, made one by reciprocal-rank fusion."""

    batch_size: Annotated[int, Changes.NOTHING] = Field(
        default=512, ge=1, description="passages that `ragdro index` encodes and writes at once"
    )
    constant: Annotated[float, Changes.CANDIDATES] = Field(
        default=60.0, ge=0, description="how much rank 1 stands above the ranks after it"
    )
    depth: Annotated[int, Changes.CANDIDATES] = Field(
        default=100, ge=1, description="hits taken from each ranking where several are fused (at least top_n)"
    )


class PostgresSettings(_Fused):
    """A table of PostgreSQL: full text, vectors by pgvector, or both, fused."""

    kind: Literal["postgres"] = "postgres"
    dsn: str | None = Field(
        default=None,
        description="connection string without a password (that comes from PGPASSWORD or ~/.pgpass), or"
        " `$NAME`: that environment variable; null: PGHOST, PGUSER, PGDATABASE and the like",
    )
    table: str = Field(
        default="passages", pattern=r"^[^.%\x00]+(\.[^.%\x00]+)?$", description="the table, or schema.table"
    )
    columns: Columns = Field(default_factory=Columns, description="the table's columns")
    full_text: FullText | None = Field(
        default_factory=FullText, description="search by words; null: not searched"
    )
    vectors: PgVectors | None = Field(
        default=None, description="search by vectors (needs `model`); null: not searched"
    )

    @model_validator(mode="after")
    def _is_searched(self) -> PostgresSettings:
        if self.full_text is None and self.vectors is None:
            raise ValueError("full_text and vectors are both null: nothing would be searched")
        if self.dsn is not None and _SECRET.search(self.dsn):
            raise ValueError(
                "dsn holds a password, which run folders would keep: leave it out and set PGPASSWORD, or"
                " write dsn: $NAME with the whole string in that environment variable"
            )
        return self


class PayloadNames(Settings):
    """What a point's payload calls the parts of a passage; `meta.name` is `name` inside `meta`."""

    id: str | None = Field(default="id", description="field of the passage's id; null: the point's own id")
    title: str | None = Field(default="title", description="field of the title; null where there is none")
    text: str = Field(default="text", description="field of the text")
    source: str | None = Field(
        default="source",
        description="field of where a passage is from: that of `ragdro ingest`, or a name; null for none",
    )


class QdrantDense(BiEncoderSettings):
    """One vector a passage."""

    name: str = Field(
        default="dense", description="the vector's name; '' for the collection's unnamed vector"
    )
    weight: Annotated[float, Changes.CANDIDATES] = Field(default=1.0, gt=0, description=_WEIGHT)


class QdrantSparse(Settings):
    """BM25: term weights of ours, the inverse document frequencies of Qdrant."""

    name: str = Field(default="sparse", description="the sparse vector's name")
    language: str = Field(default="english", description="language of endings and stop words")
    k1: float = Field(default=1.2, ge=0, description="term-frequency saturation")
    b: float = Field(default=0.75, ge=0, le=1, description="length normalisation, 0 (none) to 1 (full)")
    weight: Annotated[float, Changes.CANDIDATES] = Field(default=1.0, gt=0, description=_WEIGHT)


class QdrantMulti(TokenEncoderSettings):
    """Late interaction: one vector a token, compared by MaxSim."""

    name: str = Field(default="multi", description="the multi-vector's name")
    weight: Annotated[float, Changes.CANDIDATES] = Field(default=1.0, gt=0, description=_WEIGHT)


class QdrantSettings(_Fused):
    """A collection of Qdrant in a folder or on a server: words, vectors, token vectors, or several fused."""

    kind: Literal["qdrant"] = "qdrant"
    path: Annotated[Path | None, Changes.CONTENT] = Field(
        default=None, description="folder of an embedded Qdrant: one process at a time, every point compared"
    )
    url: str | None = Field(default=None, pattern=URL, description="address of a server")
    api_key: Annotated[str | None, Changes.NOTHING] = Field(
        default=None,
        pattern=FROM_ENVIRONMENT,
        description="the server's key as `$NAME`: that environment variable",
    )
    collection: str = Field(default="passages", min_length=1, description="the collection, or its alias")
    payload: PayloadNames = Field(default_factory=PayloadNames, description="the payload's fields")
    sparse: QdrantSparse | None = Field(
        default_factory=QdrantSparse,
        description="search by words, in collections that `ragdro index` filled; null: not searched",
    )
    dense: QdrantDense | None = Field(
        default=None, description="search by vectors (needs `model`); null: not searched"
    )
    multi: QdrantMulti | None = Field(
        default=None, description="search by token vectors (needs `model`); null: not searched"
    )
    exact: Annotated[bool, Changes.CANDIDATES] = Field(
        default=False, description="compare every vector instead of searching the graph"
    )

    @model_validator(mode="after")
    def _is_searched(self) -> QdrantSettings:
        if (self.path is None) == (self.url is None):
            raise ValueError("either path (a folder) or url (a server) has to be given")
        if self.url is not None and _SECRET.search(self.url):
            raise ValueError("url holds a password, which run folders would keep: use api_key: $NAME")
        if not (self.sparse or self.dense or self.multi):
            raise ValueError("sparse, dense and multi are all null: nothing would be searched")
        return self
