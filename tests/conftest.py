"""What the tests share: three kinds of tokenizer and small random models, all made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from mmap import mmap
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from ragdro.lm.model import LanguageModel
from ragdro.lm.tokens import TextTokenizer
from tests.databases import Postgres

settings.register_profile("suite", derandomize=True)  # The same examples in every run.
settings.load_profile("suite")

_SENTENCES = [
    "Below are a question and passages, each with a numerical identifier in brackets.",
    "Question: where does Mara Voss work? Selection: [1] > [2] > [3] Answer: Zorba",
    "Mara Voss works for Zorba. Zorba is based in Freedonia, near the sea.",
] + [f"[{i}] > [{i + 1}] {i}" for i in range(1, 30)]
_SPECIALS = ["<unk>", "<s>", "</s>", "<|eot_id|>", "[/INST]"]


def byte_level() -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits digits: [17] is four tokens."""
    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=_SPECIALS[1:], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", additional_special_tokens=_SPECIALS[3:]
    )


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Unigram over words that begin with a mark, a dummy prefix at the start; specials are pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=_SPECIALS, unk_token="<unk>")
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=_SPECIALS[3:],
    )


def word_level(sentences: Sequence[str] = _SENTENCES) -> PreTrainedTokenizerFast:
    """Whole words; the special tokens are words of the vocabulary."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+|[\[\]?.,:]"), "isolated")
    trainer = trainers.WordLevelTrainer(vocab_size=300, special_tokens=_SPECIALS)
    tokenizer.train_from_iterator(sentences, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=_SPECIALS[3:],
    )


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "byte-level": byte_level,
    "sentencepiece-like": sentencepiece_like,
    "word-level": word_level,
}
ARCHITECTURES = ("llama", "mistral", "qwen3")


def bend_logits(model: LanguageModel) -> None:
    """Have the model compute what the product cannot from its last layer: another function of its logits."""
    plain = model.hf.forward

    def bent(*args: object, **kwargs: object) -> object:
        output = plain(*args, **kwargs)
        output.logits = output.logits.sin()
        return output

    model.hf.forward = bent


def random_model(
    tokenizer: PreTrainedTokenizerFast, architecture: str = "llama", seed: int = 0, **settings: object
) -> LanguageModel:
    """Two layers of width 32 with grouped-query attention, weights large enough to matter."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 512,
            "initializer_range": 0.3,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            **settings,
        },
    )
    kernel = settings.get("attn_implementation", "sdpa")
    hf = AutoModelForCausalLM.from_config(config, attn_implementation=kernel).eval()
    return LanguageModel(hf, TextTokenizer(tokenizer, name=architecture))


def is_mapped(array: Any) -> bool:
    """Whether an array's numbers are those of a file, read as they are looked at, and the array a plain one:
    each piece of a `memmap` costs microseconds, in which no other thread runs."""
    if type(array) is not np.ndarray:
        return False
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap)


@pytest.fixture(params=sorted(TOKENIZERS))
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that is started for the first test that asks for it."""
    server = Postgres()
    yield server
    server.close()
