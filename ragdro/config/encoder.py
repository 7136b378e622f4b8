"""Settings of a model that encodes questions and passages into vectors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ragdro.config.base import Settings
from ragdro.config.changes import Changes


class EncoderSettings(Settings):
    """Which weights, on which device, with which text before what is encoded."""

    model: Annotated[str, Changes.CONTENT] = Field(description="hub name or folder of the model's weights")
    device: Annotated[str | None, Changes.NOTHING] = Field(
        default=None, description="torch device; null for the best one there is"
    )
    encode_batch_size: Annotated[int, Changes.NOTHING] = Field(
        default=64, ge=1, description="passages encoded at once"
    )
    trust_remote_code: bool = Field(default=False, description="run code that comes with the model")
    revision: str | None = Field(default=None, description="hub revision of the model")
    query_prompt: Annotated[str | None, Changes.CANDIDATES] = Field(
        default=None, description="text put before each question (E5: 'query: '); null for the model's own"
    )
    passage_prompt: str | None = Field(
        default=None, description="text put before each passage (E5: 'passage: '); null for the model's own"
    )


class BiEncoderSettings(EncoderSettings):
    """One vector a text, by a sentence-transformers bi-encoder."""

    normalise: bool = Field(default=True, description="unit vectors, so that the inner product is the cosine")


class TokenEncoderSettings(EncoderSettings):
    """One vector a token, by a MultiVectorEncoder (ColBERT)."""

    projection: Literal["checkpoint", "none"] = Field(
        default="checkpoint",
        description="'checkpoint': the model's own token projection, an error where it has none; "
        "'none': the backbone's token vectors as they are",
    )
