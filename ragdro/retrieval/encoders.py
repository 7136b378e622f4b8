"""Loading the models that dense and late-interaction retrieval encode with, and knowing them again.

In: settings with a model's name. Out: a loaded sentence-transformers model. A *probe* is the encoding
of one fixed text: kept in the index, it shows on opening whether the same weights are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from sentence_transformers import MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules.dense import Dense

from ragdro.config.encoder import BiEncoderSettings, EncoderSettings, TokenEncoderSettings
from ragdro.errors import ModelError, RetrievalError
from ragdro.files import atomic_file
from ragdro.hub import Checkpoint, find_checkpoint
from ragdro.types import Passage

PROBE_TEXT = "Which passage answers the question?"
SAME_WEIGHTS = 0.99
"""Least cosine of two probes by the same weights, whatever device and precision computed them."""


def passage_text(passage: Passage) -> str:
    """What is encoded of a passage: the title, where it has one, and the text."""
    return f"{passage.title} {passage.text}".strip()


def load_bi_encoder(settings: BiEncoderSettings) -> SentenceTransformer:
    """The bi-encoder; RetrievalError names a model that cannot be loaded."""
    checkpoint = _find(settings, SentenceTransformer.default_huggingface_organization)
    try:
        return SentenceTransformer(
            checkpoint.path,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            revision=settings.revision,
            local_files_only=checkpoint.local,
        )
    except (OSError, ValueError) as error:
        raise RetrievalError(f"retriever.model: {settings.model!r} cannot be loaded: {error}") from error


def load_token_encoder(settings: TokenEncoderSettings) -> MultiVectorEncoder:
    """The late-interaction encoder; RetrievalError names a model that cannot be loaded."""
    checkpoint = _find(settings)
    try:
        encoder = MultiVectorEncoder(
            checkpoint.path,
            device=settings.device,
            trust_remote_code=settings.trust_remote_code,
            revision=settings.revision,
            local_files_only=checkpoint.local,
        )
        return _unprojected(encoder) if settings.projection == "none" else encoder
    except (OSError, ValueError) as error:
        raise RetrievalError(f"retriever.model: {settings.model!r} cannot be loaded: {error}") from error


def _find(settings: EncoderSettings, organisation: str | None = None) -> Checkpoint:
    """Where the encoder is; the library reads a name alone as one of `organisation`."""
    name = settings.model
    if organisation is not None and "/" not in name and not Path(name).exists():
        name = f"{organisation}/{name}"
    try:
        return find_checkpoint(name, settings.revision, ("modules.json", "config.json"))
    except ModelError as error:
        raise RetrievalError(f"retriever.model: {error}") from error


def _unprojected(encoder: MultiVectorEncoder) -> MultiVectorEncoder:
    """The same encoder with its token-level projections left out."""
    kept = [module for module in encoder if not isinstance(module, Dense)]
    prompts = {name: prompt for name, prompt in encoder.prompts.items() if prompt is not None}
    return MultiVectorEncoder(modules=kept, device=str(encoder.device), prompts=prompts)


def check_projection(encoder: MultiVectorEncoder, settings: TokenEncoderSettings) -> None:
    """RetrievalError where the token projection is not the checkpoint's own.

    sentence-transformers gives a plain encoder a random projection, another one at each load: two
    loads then disagree, and every score would be noise.
    """
    first, second = token_probe(encoder), token_probe(load_token_encoder(settings))
    if not alike(first, second):
        raise RetrievalError(
            f"retriever.model: {settings.model!r} has no trained token projection, so it is no ColBERT "
            "checkpoint; choose one, or set retriever.projection to 'none' to use its own token vectors"
        )


def encode_texts(
    encode: Callable[..., Any], texts: Sequence[str], prompt: str | None, settings: BiEncoderSettings
) -> Float32[np.ndarray, "texts width"]:
    """Vectors by the model's method for questions or for passages, which knows its prompts and routes."""
    vectors = encode(
        list(texts),
        prompt=prompt,
        batch_size=settings.encode_batch_size,
        normalize_embeddings=settings.normalise,
        show_progress_bar=False,
    )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def encode_tokens(
    encode: Callable[..., Any], texts: Sequence[str], prompt: str | None, settings: EncoderSettings
) -> list[Float32[np.ndarray, "_ width"]]:
    """The unit-length token vectors of each text, by the same kind of method."""
    vectors = encode(
        list(texts),
        prompt=prompt,
        batch_size=settings.encode_batch_size,
        convert_to_numpy=True,
        normalize_embeddings=True,
        show_progress_bar=False,
    )
    return [np.asarray(of_text, dtype=np.float32) for of_text in vectors]


def bi_probe(encoder: SentenceTransformer) -> Float32[np.ndarray, " width"]:
    """The probe text's vector by a bi-encoder."""
    vectors = encoder.encode_query([PROBE_TEXT], show_progress_bar=False)
    return np.asarray(vectors[0], dtype=np.float32)


def token_probe(encoder: MultiVectorEncoder) -> Float32[np.ndarray, " width"]:
    """The probe text's first token vector by a late-interaction encoder."""
    encoded = encoder.encode_document([PROBE_TEXT], convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(encoded[0][0], dtype=np.float32)


def write_probe(path: Path, probe: Float32[np.ndarray, " width"]) -> None:
    """Keep the probe of the weights that an index is built with."""
    with atomic_file(path) as file:
        np.save(file, probe)


def check_probe(path: Path, probe: Float32[np.ndarray, " width"], model: str) -> None:
    """RetrievalError where the loaded weights are not those that the index at `path` was built with."""
    if not alike(np.load(path), probe):
        raise RetrievalError(
            f"{path.parent}: built with other weights than {model!r} has now; build the index again"
        )


def alike(first: Float32[np.ndarray, " width"], second: Float32[np.ndarray, " other"]) -> bool:
    """Whether two probes are by the same weights."""
    if first.shape != second.shape:
        return False
    product = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return product > 0 and float(first @ second) / product >= SAME_WEIGHTS


def shard_starts(passages: int, shard_size: int) -> Iterator[tuple[int, int]]:
    """The row ranges (start, stop) of the shards of a corpus, in order."""
    for start in range(0, passages, shard_size):
        yield start, min(start + shard_size, passages)
