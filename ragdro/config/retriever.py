"""Which retriever, with which settings: the `retriever:` part of a config. Imports no heavy library.

In: a mapping with a `kind`. Out: one of the models below. Every default and every word of help about
retrieval is written here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from ragdro.config.base import IMPORT_PATH, Settings, kind_or
from ragdro.config.changes import Changes
from ragdro.config.encoder import BiEncoderSettings, TokenEncoderSettings
from ragdro.config.http import HttpService
from ragdro.config.indexes import (
    ExactMaxSim,
    FaissSettings,
    FlatIndex,
    HnswIndex,
    LanceIndex,
    MuveraIvfPqIndex,
    PqIndex,
)
from ragdro.config.stores import PostgresSettings, QdrantSettings
from ragdro.config.teaching import TaughtByTheLoop
from ragdro.config.words import describe
from ragdro.errors import ConfigError

DEFAULT_KIND = "bm25"
DEFAULT_TOP_N = 20
AUTO = "auto"


class Bm25Settings(Settings):
    """Sparse retrieval with bm25s; title and text are indexed as one field."""

    kind: Literal["bm25"] = "bm25"
    k1: float = Field(default=1.2, ge=0, description="term-frequency saturation")
    b: float = Field(default=0.75, ge=0, le=1, description="length normalisation, 0 (none) to 1 (full)")
    method: Literal["lucene", "robertson", "atire"] = Field(
        default="lucene", description="which published variant of BM25's two factors"
    )
    language: str = Field(
        default=AUTO,
        description="what 'auto' means below; 'auto' here: the language of the corpus's most frequent words",
    )
    stemmer: str | None = Field(
        default=AUTO,
        description="Snowball stemmer of this language; 'auto': that of `language`; null for none",
    )
    stopwords: str | None = Field(
        default=AUTO,
        description="bm25s stop words of this language; 'auto': those of `language`; null for none",
    )
    shard_size: Annotated[int, Changes.RESTARTS] = Field(
        default=50_000, ge=1, description="passages tokenized between two restart points"
    )


class DenseVectors(FaissSettings, BiEncoderSettings):
    """One vector a passage by a sentence-transformers bi-encoder, searched with FAISS."""

    kind: Literal["dense"] = "dense"


class FirstStage(Settings):
    """What finds the passages that are then scored: only those are encoded."""

    top: Annotated[int, Changes.CANDIDATES] = Field(
        default=200, ge=1, description="passages of a question that are scored (at least top_n are)"
    )
    cache_gb: Annotated[float, Changes.NOTHING] = Field(
        default=20.0,
        ge=0,
        description="disk (10^9 bytes) that vectors of encoded passages may take; the oldest make room",
    )


class Bm25FirstStage(FirstStage, Bm25Settings):
    """The best passages by BM25."""


class DenseFirstStage(FirstStage, DenseVectors):
    """The nearest passages by another bi-encoder's vectors."""


class MuveraFirstStage(FirstStage, FaissSettings):
    """The nearest passages by one vector a passage, made of ColBERT's own token vectors (MUVERA): random
    hyperplanes cut space into regions, and a vector has a part for each region."""

    kind: Literal["muvera"] = "muvera"
    repetitions: int = Field(default=20, ge=1, description="times that space is cut anew; all are kept")
    hyperplanes: int = Field(default=5, ge=1, le=10, description="cuts of a repetition: 2^this regions")
    projection: int = Field(
        default=16, ge=1, description="numbers a region; a vector has repetitions x regions x this"
    )
    shard_size: Annotated[int, Changes.RESTARTS] = Field(
        default=5_000, ge=1, description="passages encoded between two restart points"
    )
    index: FlatIndex | PqIndex | MuveraIvfPqIndex | HnswIndex = Field(
        default_factory=FlatIndex, discriminator="type", description="the FAISS index"
    )

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.repetitions * 2**self.hyperplanes * self.projection)


FirstStageSettings: TypeAlias = Bm25FirstStage | DenseFirstStage | MuveraFirstStage
_FIRST_STAGE = "what finds the passages that are scored; null: all passages are encoded and indexed"


def _check_stages(settings: DenseSettings | ColbertSettings, own_index: str) -> None:
    """ValueError for a first stage that leaves another setting without meaning."""
    first = settings.first_stage
    if first is None:
        return
    if settings.index.type != own_index:
        raise ValueError(
            f"index: {settings.index.type} and first_stage do not go together: what a first stage finds is"
            " scored exactly, without an index; leave one of them out (a dense first stage has its own:"
            " first_stage.index)"
        )
    if isinstance(first, DenseFirstStage) and first.kind == settings.kind and first.model == settings.model:
        raise ValueError(
            f"first_stage.model: the same as model ({settings.model}): the order would be the first stage's"
            " own; leave first_stage out, or name another model"
        )


class DenseSettings(TaughtByTheLoop, DenseVectors):
    """One vector a passage by a sentence-transformers bi-encoder, searched with FAISS or scored behind a
    first stage."""

    first_stage: Bm25FirstStage | DenseFirstStage | None = Field(
        default=None, discriminator="kind", description=_FIRST_STAGE
    )

    @model_validator(mode="after")
    def _stages_go_together(self) -> DenseSettings:
        _check_stages(self, "flat")
        return self


class ColbertSettings(TaughtByTheLoop, TokenEncoderSettings):
    """Late interaction (ColBERT): one vector a token and MaxSim, by a MultiVectorEncoder."""

    kind: Literal["colbert"] = "colbert"
    shard_size: Annotated[int, Changes.RESTARTS] = Field(
        default=5_000, ge=1, description="passages encoded between two restart points"
    )
    index: ExactMaxSim | LanceIndex = Field(
        default_factory=ExactMaxSim, discriminator="type", description="how token vectors are searched"
    )
    first_stage: FirstStageSettings | None = Field(
        default=None, discriminator="kind", description=_FIRST_STAGE
    )

    @model_validator(mode="after")
    def _stages_go_together(self) -> ColbertSettings:
        _check_stages(self, "exact")
        return self


class TrecRun(Settings):
    """A TREC run file (`qid Q0 docid rank score tag`); ids are the corpus's and the questions'."""

    type: Literal["trec"] = "trec"
    path: Annotated[Path, Changes.CONTENT] = Field(description="the run file")


class CandidatesFile(Settings):
    """A candidates file, as `ragdro retrieve` writes it; questions are found by their ids."""

    type: Literal["candidates"] = "candidates"
    path: Annotated[Path, Changes.CONTENT] = Field(description="the candidates file")


class DprResults(Settings):
    """DPR retrieval results (JSON list of `question`, `ctxs[{id,title,text,score}]`)."""

    type: Literal["dpr"] = "dpr"
    path: Annotated[Path, Changes.CONTENT] = Field(description="the results file")


class JsonService(HttpService):
    """Our minimal protocol, described in `ragdro.retrieval.http`."""

    type: Literal["json"] = "json"


class ElasticService(HttpService):
    """Elasticsearch or OpenSearch; `url` is the index's, for instance http://host:9200/wiki."""

    type: Literal["elasticsearch"] = "elasticsearch"
    concurrency: Annotated[int, Changes.NOTHING] = Field(
        default=8, ge=1, description="requests under way at once"
    )
    title_field: str = Field(default="title", description="field that holds the title")
    text_field: str = Field(default="text", description="field that holds the text")
    title_boost: float = Field(default=1.0, gt=0, description="weight of a match in the title")


class ExternalSettings(Settings):
    """Candidates that something else retrieved: a file of them, or a search service."""

    kind: Literal["external"] = "external"
    source: Annotated[
        TrecRun | CandidatesFile | DprResults | JsonService | ElasticService, Changes.CANDIDATES
    ] = Field(discriminator="type", description="the file or the service")


class GivenSettings(Settings):
    """The question's own `candidates`, or else its own `passages`, in their order, the first top_n."""

    kind: Literal["given"] = "given"


class CustomSettings(Settings):
    """A retriever of one's own: a class by its import path. All further keys are its arguments.

    `ragdro.retrieval.custom` says what it has to have.
    """

    model_config = ConfigDict(extra="allow")

    kind: str = Field(pattern=IMPORT_PATH, description="the class, as package.module:ClassName")

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is made with."""
        return dict(self.model_extra or {})


FusedSettings: TypeAlias = Annotated[
    Bm25Settings | DenseSettings | ColbertSettings | ExternalSettings, Field(discriminator="kind")
]


class HybridSettings(Settings):
    """Reciprocal-rank fusion: score(d) = sum over members of weight / (constant + rank of d)."""

    kind: Literal["hybrid"] = "hybrid"
    members: tuple[FusedSettings, ...] = Field(min_length=1, description="the retrievers that are fused")
    weights: Annotated[tuple[float, ...] | None, Changes.CANDIDATES] = Field(
        default=None, description="one weight per member; null for 1 each"
    )
    constant: Annotated[float, Changes.CANDIDATES] = Field(
        default=60.0, ge=0, description="how much rank 1 stands above the ranks after it"
    )
    depth: Annotated[int, Changes.CANDIDATES] = Field(
        default=100, ge=1, description="hits taken from each member (at least top_n are)"
    )


def _kind_of(value: Any) -> Any:
    """The kind that tells settings apart; an import path is the kind of one's own retrievers."""
    kind = kind_or(DEFAULT_KIND)(value)
    return "custom" if isinstance(kind, str) and ":" in kind else kind


RetrieverSettings: TypeAlias = Annotated[
    Annotated[Bm25Settings, Tag("bm25")]
    | Annotated[DenseSettings, Tag("dense")]
    | Annotated[ColbertSettings, Tag("colbert")]
    | Annotated[HybridSettings, Tag("hybrid")]
    | Annotated[ExternalSettings, Tag("external")]
    | Annotated[PostgresSettings, Tag("postgres")]
    | Annotated[QdrantSettings, Tag("qdrant")]
    | Annotated[GivenSettings, Tag("given")]
    | Annotated[CustomSettings, Tag("custom")],
    Discriminator(_kind_of),
]
"""Settings of any kind; a mapping without `kind` means the default kind."""


class _Part(Settings):
    """That part of a config."""

    retriever: RetrieverSettings


def parse_settings(values: Mapping[str, Any]) -> RetrieverSettings:
    """Settings from plain values, as in YAML; ConfigError names the key that is wrong or unknown."""
    try:
        return _Part.model_validate({"retriever": values}).retriever
    except ValidationError as error:
        raise ConfigError(describe(error, _Part)) from error
