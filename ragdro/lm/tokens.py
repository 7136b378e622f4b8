"""Tokenisation that keeps a wall between our template text and the users' text.

In: a Hugging Face tokenizer and text. Out: token ids. Text that we wrote (templates) may hold special
tokens; text that came from a user (a question, a passage, an answer) never becomes one, whatever it
says: `<|eot_id|>` in a passage reaches the model as the letters that a reader sees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from ragdro.errors import ModelError


class TextTokenizer:
    """A tokenizer with two doors: `template` for our own text, `data` for everybody else's.

    Raises `ModelError` where the tokenizer has no end token, without which neither an answer nor its
    probability has an end.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{name}: the tokenizer has no end token (eos_token), so an answer could never end"
            )
        self.hf = tokenizer
        self.name = name
        self.end_id: int = int(tokenizer.eos_token_id)
        self.pad_id: int = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end_id)
        self._plain, self._forbidden = _without_added_tokens(tokenizer)
        surfaces = sorted(
            (s for s in tokenizer.convert_ids_to_tokens(sorted(self._forbidden)) if s and len(s) > 1),
            key=len,
            reverse=True,
        )
        self._control = re.compile("|".join(map(re.escape, surfaces))) if surfaces else None
        self._data_cached = lru_cache(maxsize=200_000)(self._encode_data)
        self._template_cached = lru_cache(maxsize=10_000)(self._encode_template)
        self.memory: Callable[[str], list[int] | None] = lambda text: None
        """Where ids of users' texts are looked up first (see `ragdro.lm.token_store`)."""

    def template(self, text: str) -> list[int]:
        """Ids of text that we wrote; special tokens in it are parsed, none is added."""
        return list(self._template_cached(text)) if text else []

    def data(self, text: str, limit: int | None = None) -> list[int]:
        """Ids of text that a user wrote, cut to `limit` tokens; none of them is a special token."""
        known = self.memory(text)
        return (list(self._data_cached(text)) if known is None else known)[:limit]

    def continuation(self, before: str, text: str) -> list[int]:
        """Ids of `text` as it is tokenised where it follows `before`, so that no dummy prefix is added."""
        head, whole = self.data(before), self.data(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self.data(text)

    @property
    def start_ids(self) -> list[int]:
        """What the tokenizer itself puts before a text (a begin token, mostly; often nothing)."""
        marked, bare = self.hf("a")["input_ids"], self.hf("a", add_special_tokens=False)["input_ids"]
        where = next((i for i in range(len(marked)) if marked[i : i + len(bare)] == bare), 0)
        return list(marked[:where])

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids, special tokens left out, stripped."""
        return str(self.hf.decode(ids, skip_special_tokens=True)).strip()

    @property
    def fingerprint(self) -> bytes:
        """Equal for tokenizers that turn users' texts into the same ids."""
        forbidden = ",".join(map(str, sorted(self._forbidden)))
        if self._plain is None:  # no fast tokenizer: its name is all there is to go by
            return f"{type(self.hf).__name__} {self.name} {len(self.hf)} {forbidden}".encode()
        return f"{self._plain.to_str()} {forbidden}".encode()

    def _encode_template(self, text: str) -> tuple[int, ...]:
        return tuple(self.hf(text, add_special_tokens=False)["input_ids"])

    def _encode_data(self, text: str) -> tuple[int, ...]:
        ids = self._bare(text)
        if self._control is None or self._forbidden.isdisjoint(ids):
            return tuple(ids)
        ids = [i for piece in self._broken_apart(text) for i in self._bare(piece)]
        if not self._forbidden.isdisjoint(ids):
            token = self.hf.convert_ids_to_tokens([i for i in ids if i in self._forbidden])[0]
            raise ModelError(f"{self.name}: the tokenizer turns plain text into its special token {token!r}")
        return tuple(ids)

    def _broken_apart(self, text: str) -> list[str]:
        """The text cut inside every special token's surface, so that no piece holds a whole one."""
        assert self._control is not None
        pieces, at = [], 0
        for match in self._control.finditer(text):
            pieces.append(text[at : match.start() + 1])
            at = match.start() + 1
        return [*pieces, text[at:]]

    def _bare(self, text: str) -> list[int]:
        if not text:
            return []
        if self._plain is not None:
            return list(self._plain.encode(text, add_special_tokens=False).ids)
        return list(self.hf.encode(text, add_special_tokens=False, split_special_tokens=True))


def _without_added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[Tokenizer | None, frozenset[int]]:
    """The same tokenizer without its added tokens, and the ids that text must never become.

    Clearing the added tokens is not enough where a special token is also a piece of the base
    vocabulary (SentencePiece, word level); those ids stay forbidden and are checked after encoding.
    The unknown token is the one special token that plain text may become.
    """
    allowed = {tokenizer.unk_token_id}
    forbidden = set(tokenizer.all_special_ids)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        forbidden |= set(tokenizer.added_tokens_decoder)
        return None, frozenset(forbidden - allowed)
    spec = json.loads(backend.to_str())
    vocabulary = backend.get_vocab(with_added_tokens=False)
    for token in spec["added_tokens"]:
        if token["special"] or token["content"] not in vocabulary:
            forbidden.add(int(token["id"]))
    spec.update(added_tokens=[], post_processor=None, truncation=None, padding=None)
    return Tokenizer.from_str(json.dumps(spec)), frozenset(forbidden - allowed)
