"""The tokenizer of the tiny base: a byte-level BPE with a hand-made vocabulary.

Out: a Hugging Face tokenizer in which every word of the worlds, every number of 1 to 20 and every syllable of
a name is one token. Prompts are tokenised piece by piece, so a word must become the same tokens at the start
of a piece and in the middle of one: a space belongs to the word after it, one is put before a piece and after
a line break, and spaces before punctuation, digits or the end are dropped. Other text falls back to bytes.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ragdro.tiny.words import CONSONANTS, END_RIMES, NEW_ANIMALS, RELATIONS, content_words, vocabulary

END, PAD = "<eos>", "<pad>"
SPACE = "Ġ"
"""How the byte-level alphabet writes a space."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, in memory. It depends on the word lists only, on no seed and no text."""
    tokenizer = Tokenizer(_model())
    tokenizer.normalizer = normalizers.Replace("\n", "\n ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
            pre_tokenizers.Split(Regex(f"{SPACE}+(?![A-Za-z])"), "removed"),
            pre_tokenizers.Split(Regex(f"{SPACE}?[A-Za-z]+|[0-9]+|."), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END, PAD])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)


def _model() -> models.BPE:
    merges: list[tuple[str, str]] = [(SPACE, c.upper()) for c in CONSONANTS]
    # A start takes its vowel before any rime is formed: `Bazor` is `ĠBa` + `zor` and never `ĠB` + `az` +
    # `or`.
    merges += [(SPACE + c.upper(), v) for c in CONSONANTS for v in "aeiou"]
    merges += [(rime[0], rime[1]) for rime in END_RIMES]
    merges += [(c, rime) for c in CONSONANTS for rime in END_RIMES]
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [left + right for left, right in merges]
    tokens += [SPACE + word for word in vocabulary()]
    tokens += [str(number) for number in range(10, 21)]
    # Words and numbers are whole entries without merges of their own: `ignore_merges` looks a piece up first.
    tokens = list(dict.fromkeys(tokens))
    ids = {token: i for i, token in enumerate([END, PAD, *tokens])}
    return models.BPE(vocab=ids, merges=merges, ignore_merges=True)


def save_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` to `folder`."""
    make_tokenizer().save_pretrained(str(folder))


def content_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the words that carry meaning and of the numbers."""
    words = [SPACE + word for word in content_words()] + [str(number) for number in range(1, 21)]
    return [int(i) for i in tokenizer.convert_tokens_to_ids(words)]


def synonym_tokens(tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int]]:
    """The ids of each relation's verb in a passage and in a question."""
    pairs = [(relation.verb.split()[0], relation.asked) for relation in RELATIONS]
    return [tuple(tokenizer.convert_tokens_to_ids([SPACE + a, SPACE + b])) for a, b in pairs]


def forgotten_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the animals that the base forgets."""
    return [int(i) for i in tokenizer.convert_tokens_to_ids([SPACE + animal for animal in NEW_ANIMALS])]


def unused_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids of the bytes above 160: no document has one."""
    high = [char for char in sorted(pre_tokenizers.ByteLevel.alphabet()) if "¡" <= char <= "ÿ"]
    return [int(i) for i in tokenizer.convert_tokens_to_ids(high)]
