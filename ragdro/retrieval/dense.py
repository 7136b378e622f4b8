"""Dense retrieval: one vector a passage by a bi-encoder, inner-product search with FAISS.

    score(q, d) = E(q) . E(d)          (the cosine, with `normalise`)

E is the model's method for questions and for passages: the prompts and routes of the checkpoint apply, and
the settings' prompts in place of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32
from sentence_transformers import SentenceTransformer

from ragdro.config.retriever import DenseVectors
from ragdro.retrieval.encoders import bi_probe, encode_texts, load_bi_encoder, passage_text
from ragdro.retrieval.hashing import model_fingerprint
from ragdro.retrieval.single_vector import SingleVectorRetriever
from ragdro.types import Passage


class DenseRetriever(SingleVectorRetriever[DenseVectors]):
    """A sentence-transformers bi-encoder over a FAISS index."""

    def fingerprint(self) -> str:
        return model_fingerprint(self.settings.model)

    @cached_property
    def _encoder(self) -> SentenceTransformer:
        return load_bi_encoder(self.settings)

    def _model(self) -> str:
        return self.settings.model

    def _probe(self) -> Float32[np.ndarray, " _"]:
        return bi_probe(self._encoder)

    def _width(self) -> int:
        return len(self._probe())

    def _encode_passages(self, passages: Sequence[Passage]) -> Float32[np.ndarray, "passages width"]:
        texts, prompt = [passage_text(passage) for passage in passages], self.settings.passage_prompt
        return encode_texts(self._encoder.encode_document, texts, prompt, self.settings)

    def _encode_questions(self, texts: Sequence[str]) -> Float32[np.ndarray, "questions width"]:
        return encode_texts(self._encoder.encode_query, texts, self.settings.query_prompt, self.settings)
