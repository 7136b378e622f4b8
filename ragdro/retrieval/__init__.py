"""Retrieval: a corpus and questions in, each question's top-N passages (`Candidates`) out.

Importing this package loads none of the retrieval libraries; a retriever loads its own when it is made.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from ragdro.config.retriever import (
    Bm25FirstStage,
    Bm25Settings,
    ColbertSettings,
    CustomSettings,
    DenseFirstStage,
    DenseSettings,
    DenseVectors,
    ExternalSettings,
    FirstStageSettings,
    GivenSettings,
    HybridSettings,
    MuveraFirstStage,
    RetrieverSettings,
    parse_settings,
)
from ragdro.config.stores import PostgresSettings, QdrantSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.base import Retriever
from ragdro.retrieval.manifest import index_settings

__all__ = ["Retriever", "RetrieverSettings", "make_retriever", "open_retriever", "parse_settings"]


_EXTRAS = {"faiss": "dense", "sentence_transformers": "dense", "lancedb": "colbert", "httpx": "http"}
_EXTRAS |= {"psycopg": "postgres", "qdrant_client": "qdrant"}


def make_retriever(
    settings: RetrieverSettings | Bm25FirstStage | DenseFirstStage, *, show_progress: bool = False
) -> Retriever[Any]:
    """The retriever of these settings, with no index open yet.

    RetrievalError for settings that cannot be, and where a library that the kind needs is not installed.
    """
    try:
        return _make(settings, show_progress)
    except ModuleNotFoundError as error:
        needed = f"the {settings.kind} retriever needs {error.name}, which is not installed"
        extra = _EXTRAS.get(error.name or "")
        raise RetrievalError(needed + (f": pip install 'ragdro[{extra}]'" if extra else "")) from error


def _make(
    settings: RetrieverSettings | Bm25FirstStage | DenseFirstStage, show_progress: bool
) -> Retriever[Any]:
    match settings:
        case Bm25Settings():
            from ragdro.retrieval.bm25 import Bm25Retriever

            return Bm25Retriever(settings, show_progress=show_progress)
        case DenseSettings() | ColbertSettings() if settings.first_stage is not None:
            return _staged(settings, settings.first_stage, show_progress)
        case DenseVectors():
            from ragdro.retrieval.dense import DenseRetriever

            return DenseRetriever(settings, show_progress=show_progress)
        case ColbertSettings():
            from ragdro.retrieval.colbert import ColbertRetriever

            if settings.index.type == "lance":
                import_module("lancedb")  # here, so that its absence is reported before hours of encoding
            return ColbertRetriever(settings, show_progress=show_progress)
        case HybridSettings():
            from ragdro.retrieval.hybrid import HybridRetriever

            members = [make_retriever(member, show_progress=show_progress) for member in settings.members]
            return HybridRetriever(settings, members, show_progress=show_progress)
        case PostgresSettings():
            from ragdro.retrieval.postgres import PostgresRetriever

            return PostgresRetriever(settings, show_progress=show_progress)
        case QdrantSettings():
            from ragdro.retrieval.qdrant import QdrantRetriever

            return QdrantRetriever(settings, show_progress=show_progress)
        case GivenSettings():
            from ragdro.retrieval.given import GivenRetriever

            return GivenRetriever(settings, show_progress=show_progress)
        case ExternalSettings():
            return _external(settings, show_progress)
        case CustomSettings():
            from ragdro.retrieval.custom import CustomRetriever

            return CustomRetriever(settings, show_progress=show_progress)


def _staged(
    settings: DenseSettings | ColbertSettings, first: FirstStageSettings, show_progress: bool
) -> Retriever[Any]:
    from ragdro.retrieval.passage_vectors import PassageVectors
    from ragdro.retrieval.staged import StagedRetriever

    vectors = PassageVectors(settings, first.cache_gb)
    if isinstance(first, MuveraFirstStage):
        from ragdro.retrieval.muvera import MuveraRetriever

        finds: Retriever[Any] = MuveraRetriever(first, vectors, show_progress=show_progress)
    else:
        finds = make_retriever(first, show_progress=show_progress)
    return StagedRetriever(settings, finds, vectors, show_progress=show_progress)


def _external(settings: ExternalSettings, show_progress: bool) -> Retriever[Any]:
    match settings.source.type:
        case "trec":
            from ragdro.retrieval.external import TrecRunRetriever

            return TrecRunRetriever(settings, show_progress=show_progress)
        case "candidates" | "dpr":
            from ragdro.retrieval.external import ListedRetriever

            return ListedRetriever(settings, show_progress=show_progress)
        case "json":
            from ragdro.retrieval.http import JsonServiceRetriever

            return JsonServiceRetriever(settings, show_progress=show_progress)
        case "elasticsearch":
            from ragdro.retrieval.http import ElasticRetriever

            return ElasticRetriever(settings, show_progress=show_progress)


def open_retriever(folder: Path, *, show_progress: bool = False) -> Retriever[Any]:
    """The retriever whose finished index the folder holds, opened; RetrievalError where it holds none."""
    retriever = make_retriever(parse_settings(index_settings(folder)), show_progress=show_progress)
    retriever.open(folder)
    return retriever
