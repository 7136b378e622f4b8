"""A causal LM that starts from nothing: a tokenizer trained on the corpus and random weights.

In: `ScratchModel` settings and texts. Out: a Hugging Face folder in the cache, made once for its settings,
seed and texts, and loaded like any other model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from ragdro.config import ScratchModel
from ragdro.files import atomic_folder

_TEXTS = 20_000


def scratch_model(settings: ScratchModel, texts: Iterator[str], cache: Path, seed: int) -> Path:
    """The folder of the model; the first texts (at most 20,000) train its tokenizer."""
    sample = [text for text, _ in zip(texts, range(_TEXTS), strict=False)]
    digest = hashlib.sha256(repr((settings.model_dump(), seed)).encode())
    for text in sample:
        digest.update(text.encode("utf-8", "surrogatepass"))
    folder = cache / "scratch" / digest.hexdigest()[:24]
    if not folder.exists():
        with atomic_folder(folder) as making:
            _make(settings, sample, seed, making)
    return folder


def _make(settings: ScratchModel, texts: list[str], seed: int, folder: Path) -> None:
    tokenizer = train_tokenizer(texts, settings.vocabulary)
    tokenizer.save_pretrained(folder)
    config = make_config(settings, len(tokenizer), tokenizer.eos_token_id, tokenizer.pad_token_id)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def make_config(
    settings: ScratchModel, vocabulary: int, end_id: int | None = None, pad_id: int | None = None
) -> PretrainedConfig:
    """The Hugging Face config of a model with these settings."""
    return AutoConfig.for_model(
        settings.architecture,
        vocab_size=vocabulary,
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.width // settings.heads,
        max_position_embeddings=settings.positions,
        tie_word_embeddings=True,
        eos_token_id=end_id,
        pad_token_id=pad_id,
        bos_token_id=None,
    )


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, words alike at the start of a piece and inside it, identifiers of one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lists = [" ".join(f"[{i}] >" for i in range(1, 101))] * 50
    tokenizer.train_from_iterator([*texts, *lists], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")
