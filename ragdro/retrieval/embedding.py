"""Encoders of passages that lie in a database: loaded when first needed, and known again.

In: an encoder's settings. Out: vectors of passages and of questions, and what is kept beside the passages to
know whether the same weights encode the questions: a name (of a folder, the hash of its files) and a probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32

from ragdro.config.encoder import BiEncoderSettings, TokenEncoderSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.encoders import (
    alike,
    bi_probe,
    check_projection,
    encode_texts,
    encode_tokens,
    load_bi_encoder,
    load_token_encoder,
    passage_text,
    token_probe,
)
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.types import Passage

_DIGITS = 4
"""Of a probe that is kept: enough for its cosine to be that of the whole one."""


class Embedding:
    """One vector a text."""

    def __init__(self, settings: BiEncoderSettings) -> None:
        self.settings = settings

    @cached_property
    def _encoder(self) -> Any:
        return load_bi_encoder(self.settings)

    @cached_property
    def probe(self) -> list[float]:
        """The encoding of a fixed text, rounded; its length is the vectors' width."""
        return [round(number, _DIGITS) for number in bi_probe(self._encoder).tolist()]

    def of_passages(self, passages: Sequence[Passage]) -> list[Float32[np.ndarray, " width"]]:
        """One vector a passage."""
        texts, prompt = [passage_text(passage) for passage in passages], self.settings.passage_prompt
        return list(encode_texts(self._encoder.encode_document, texts, prompt, self.settings))

    def of_questions(self, texts: Sequence[str]) -> list[Float32[np.ndarray, " width"]]:
        """One vector a question."""
        prompt = self.settings.query_prompt
        return list(encode_texts(self._encoder.encode_query, texts, prompt, self.settings))


class TokenEmbedding:
    """One vector a token, for MaxSim."""

    def __init__(self, settings: TokenEncoderSettings) -> None:
        self.settings = settings

    @cached_property
    def _encoder(self) -> Any:
        encoder = load_token_encoder(self.settings)
        if self.settings.projection == "checkpoint":
            check_projection(encoder, self.settings)
        return encoder

    @cached_property
    def probe(self) -> list[float]:
        """The first token vector of a fixed text, rounded; its length is the vectors' width."""
        return [round(number, _DIGITS) for number in token_probe(self._encoder).tolist()]

    def of_passages(self, passages: Sequence[Passage]) -> list[Float32[np.ndarray, "_ width"]]:
        """The token vectors of each passage; RetrievalError names one that has none."""
        texts, prompt = [passage_text(passage) for passage in passages], self.settings.passage_prompt
        vectors = encode_tokens(self._encoder.encode_document, texts, prompt, self.settings)
        for passage, of_passage in zip(passages, vectors, strict=True):
            if not len(of_passage):
                raise RetrievalError(f"the model gives passage {passage.id!r} no token vector")
        return vectors

    def of_questions(self, texts: Sequence[str]) -> list[Float32[np.ndarray, "_ width"]]:
        """The token vectors of each question."""
        return encode_tokens(self._encoder.encode_query, texts, self.settings.query_prompt, self.settings)


def written_by(settings: BiEncoderSettings | TokenEncoderSettings) -> dict[str, Any]:
    """Of an encoder's settings those that decide a passage's vectors; a folder stands by its files' hash."""
    deciding = settings.model_dump(include={"revision", "passage_prompt", "normalise", "projection"})
    return {"model": model_fingerprint(settings.model), **deciding}


def check_width(embedding: Embedding | TokenEmbedding, width: int, key: str, what: str) -> None:
    """RetrievalError where the model's vectors are not as wide as those that are kept."""
    if len(embedding.probe) != width:
        model = f"{embedding.settings.model!r} gives {len(embedding.probe)}"
        raise RetrievalError(f"{key}.model: {what} has vectors of {width} numbers, {model}: another model?")


def is_probe_of(embedding: Embedding | TokenEmbedding, probe: Sequence[float]) -> bool:
    """Whether the kept probe is by the weights that are loaded."""
    kept, loaded = np.array(probe, np.float32), np.array(embedding.probe, np.float32)
    return alike(kept, loaded)
