"""What a retriever's index will take, before anything is encoded: bytes on disk and in memory.

In: the retriever's settings, how many passages there are and how long. Out: for each part of the index
(passages, postings, vectors) the bytes that it has when it is finished, those on disk while it is built, and
those in memory at its worst moment, which is while it is built: a finished index is read from disk, or (codes
without lists) takes no more than while it is built. Models are not counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from ragdro.config import Config
from ragdro.config.encoder import EncoderSettings, TokenEncoderSettings
from ragdro.config.indexes import HnswIndex, IvfPqIndex, LanceIndex, PqIndex
from ragdro.config.retriever import (
    Bm25Settings,
    ColbertSettings,
    DenseSettings,
    DenseVectors,
    HybridSettings,
    MuveraFirstStage,
    RetrieverSettings,
)
from ragdro.data import read_corpus
from ragdro.errors import ConfigError, ModelError
from ragdro.hub import find_checkpoint, find_file
from ragdro.retrieval.words import words as words_of
from ragdro.sources import resolve
from ragdro.types import Passage
from ragdro.unspaced import is_unspaced, set_apart

_STORE, _STORE_MEMORY = 24.0, 48.0
"""Of a passage beside its line: offset and hash on disk; the same with what sorting them takes."""
_POSTING, _POSTING_MEMORY = 8.0, 50.0
"""A posting's score and row; what bm25s held for each at 1 M passages (3,068 MiB, `benchmarks.retrieval`)."""
_TOKEN_ID = 4.0
_FLOAT, _HALF = 4.0, 2.0
_ROW = 8.0
_CODES, _FEW_CODES = 256, 16
_SAMPLE, _SMALL = 1_000, 64 * 2**20
"""Passages that are looked at, and bytes of a corpus that is counted."""
_RESIDUALS = 2 * 256 * _CODES
"""Vectors that FAISS copies at most to train a product quantiser, twice."""


@dataclass(frozen=True, slots=True)
class Text:
    """How many passages, and of one the mean: bytes of its JSON line, words, different words, tokens."""

    passages: int
    line: float = 680.0
    words: float = 100.0
    different: float = 60.0
    tokens: float = 130.0

    @classmethod
    def of(cls, passages: int, sample: Sequence[Passage]) -> Text:
        """Lengths of a sample; without one, those of Wikipedia in passages of 100 words."""
        if not sample:
            return cls(passages)
        texts = [f"{one.title} {one.text}" for one in sample]
        words = [words_of(text) if is_unspaced(text) else text.lower().split() for text in texts]
        lines = [
            json.dumps({"id": one.id, "title": one.title, "text": one.text}, ensure_ascii=False)
            for one in sample
        ]
        count = len(sample)
        return cls(
            passages,
            sum(len(line.encode("utf-8", "surrogatepass")) + 1 for line in lines) / count,
            sum(map(len, words)) / count,
            sum(len(set(one)) for one in words) / count,
            sum(map(_tokens, texts)) / count,
        )


def _tokens(text: str) -> float:
    """About how many tokens an encoder has for a text: a character of a script without spaces is one."""
    return float(len(set_apart(text).split())) if is_unspaced(text) else 1.3 * len(text.split())


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a part of an index: finished, on disk while it is built, in memory while it is built."""

    disk: float
    building: float
    memory: float


def plan_index(settings: RetrieverSettings, text: Text) -> dict[str, Any] | None:
    """The parts of the index by name, and their sums; None for a retriever that has none of its own.

    `memory` is that of the worst part: they are built one after the other. Raises `ModelError` for a model
    whose width is needed and cannot be read.
    """
    parts = _parts(settings, text)
    if not parts:
        return None
    parts = {"passages": _passages(text), **parts}
    return {
        "passages": text.passages,
        "disk": sum(one.disk for one in parts.values()),
        "building": sum(one.building for one in parts.values()),
        "memory": max(one.memory for one in parts.values()),
        "parts": {
            name: {"disk": one.disk, "building": one.building, "memory": one.memory}
            for name, one in parts.items()
        },
    }


def plan_index_of(config: Config, passages: int | None) -> dict[str, Any] | None:
    """The plan of a run's index: over `passages` passages, or (None) over those of its corpus, where that is
    quick to count. What they are like is looked at where the corpus is there.

    Raises `ConfigError` where they have to be counted beforehand, and what `plan_index` raises.
    """
    if plan_index(config.retriever, Text(1)) is None:
        return None
    if config.data.corpus is None:
        raise ConfigError(f"data.corpus: null, and a retriever of kind {config.retriever.kind} needs one")
    source = Path(resolve(config.data.corpus))
    there, sample = source.exists(), list[Passage]()
    if there:
        reading = read_corpus(str(source), fields=config.data.names)
        sample = list(islice(reading, _SAMPLE))
        if passages is None and source.is_file() and source.stat().st_size <= _SMALL:
            passages = len(sample) + sum(1 for _ in reading)
    if passages is None:
        why = "too large to be counted in passing" if there else "not there"
        raise ConfigError(f"data.corpus: {config.data.corpus} is {why}; say how many passages: --passages N")
    return plan_index(config.retriever, Text.of(passages, sample))


def _parts(settings: Any, text: Text) -> dict[str, Part]:
    match settings:
        case HybridSettings():
            return {
                f"{name} ({number})": part
                for number, member in enumerate(settings.members, start=1)
                for name, part in _parts(member, text).items()
            }
        case DenseSettings() | ColbertSettings() if settings.first_stage is not None:
            kept = settings.first_stage.cache_gb * 1e9
            return {**_parts(settings.first_stage, text), "kept vectors": Part(kept, kept, 0.0)}
        case Bm25Settings():
            return {"BM25 postings": _postings(text)}
        case DenseVectors():
            return {"vectors": _vectors(settings, width_of(settings), text)}
        case MuveraFirstStage():
            return {"MUVERA vectors": _vectors(settings, settings.width, text)}
        case ColbertSettings():
            return {"token vectors": _token_vectors(settings, width_of(settings), text)}
        case _:
            return {}


def _passages(text: Text) -> Part:
    size = text.passages * (text.line + _STORE)
    return Part(size, size, text.passages * _STORE_MEMORY)


def _postings(text: Text) -> Part:
    postings = text.passages * text.different
    tokens = text.passages * text.words * _TOKEN_ID
    return Part(_POSTING * postings, _POSTING * postings + tokens, _POSTING_MEMORY * postings)


def _vectors(settings: DenseVectors | MuveraFirstStage, width: int, text: Text) -> Part:
    vector, index, passages = _FLOAT * width, settings.index, text.passages
    if isinstance(index, IvfPqIndex):
        lists = passages * (index.code_bytes + _ROW)
        trained = (index.lists + _CODES) * vector
        sample = min(index.training_passages, passages)
        part = min(settings.shard_size, passages) * vector + trained
        training = (sample + min(_RESIDUALS, 2 * sample)) * vector + trained
        return Part(lists + trained, 2 * lists + 2 * trained + sample * vector, max(training, part))
    if isinstance(index, PqIndex):
        codes, trained = passages * math.ceil(width / index.numbers_per_code / 2), _FEW_CODES * vector
        taught = min(index.training_passages, passages) * vector
        room = 2.0 ** math.ceil(math.log2(codes))  # that FAISS takes, half of it before; both at once to move
        held = max(min(settings.shard_size, passages) * vector, taught, 1.5 * room)
        return Part(codes + trained, 2 * codes + 2 * trained + taught, held + trained)
    edges = 2 * index.neighbours * _FLOAT if isinstance(index, HnswIndex) else 0
    finished = passages * (vector + edges)
    return Part(finished, finished + passages * vector, finished)


def _token_vectors(settings: ColbertSettings, width: int, text: Text) -> Part:
    passages, tokens = text.passages, text.passages * text.tokens
    size = tokens * width * _HALF
    shard = min(settings.shard_size, passages) * text.tokens * width * (_FLOAT + _HALF)
    if isinstance(settings.index, LanceIndex):
        codes = tokens * (settings.index.sub_vectors + _ROW)
        return Part(size + codes, 2 * size + codes, shard)
    return Part(size, size, shard)


def width_of(settings: EncoderSettings) -> int:
    """Numbers of a vector: of the last projection of a sentence-transformers folder or of a ColBERT
    checkpoint, else of the backbone's hidden states. Raises `ModelError` for a model whose files cannot be
    had."""
    projected = not isinstance(settings, TokenEncoderSettings) or settings.projection == "checkpoint"
    if projected:
        known = _projection(settings)
        if known is not None:
            return known
    checkpoint = find_checkpoint(settings.model, settings.revision, ("modules.json", "config.json"))
    try:
        hf = AutoConfig.from_pretrained(
            checkpoint.path, revision=settings.revision, local_files_only=checkpoint.local
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{settings.model}: its config cannot be read: {reason}") from error
    return int(hf.get_text_config().hidden_size)


def _projection(settings: EncoderSettings) -> int | None:
    """What the last projection gives; None where the model has none."""
    modules = _json_of(settings, "modules.json") or []
    paths = [str(one["path"]) for one in modules if str(one["type"]).endswith(".Dense")]
    if paths:
        return int((_json_of(settings, f"{paths[-1]}/config.json") or {})["out_features"])
    colbert = _json_of(settings, "artifact.metadata")
    return None if colbert is None else int(colbert["dim"])


def _json_of(settings: EncoderSettings, file: str) -> Any:
    """The values of a model's file; None where it has none. Raises `ModelError` for one that is not JSON."""
    path = find_file(settings.model, file, settings.revision, ("modules.json", "config.json"))
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from error
