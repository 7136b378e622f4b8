"""Tokenisation that keeps a wall between our template text and the users' text.

In: a Hugging Face tokenizer and text. Out: token ids. Text that we wrote (templates) may hold special
tokens; text that came from a user (a question, a passage, an answer) never becomes one, whatever it
says: `<|eot_id|>` in a passage reaches the model as the letters that a reader sees. Otherwise both together
are tokenised as the one text that they are.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

from ragdro.errors import ModelError
from ragdro.lm.chat import ChatFormat, ChatFrame, ChatOptions
from ragdro.lm.vocabulary import Parts, Place, Vocabulary, join_parts, parted

_ACROSS_A_NEWLINE = re.compile("[\\nĊ][^\\s\u2581ĠĊčĉ]")
"""In a vocabulary's own spelling: a token that continues behind a newline."""
_BEFORE_A_NEWLINE = ("word", "word.", "word ", "1", "。", "]", "word\n", '"\t')
_CACHED_CHARACTERS = 2_000
_BEHIND_A_NEWLINE = ("word", "Word", "[1]", "1", "(", '"', "é", "中")


class TextTokenizer:
    """A tokenizer with two doors: `template` for our own text, `data` for everybody else's, and `prompt` for
    both together.

    `chat` says how a chat template is used, `ends` are further end tokens that the checkpoint names. Raises
    `ModelError` where the tokenizer has no end token, without which neither an answer nor its probability
    has an end; what a chat template cannot do is raised where it is first asked (see `ragdro.lm.chat`).
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        chat: ChatOptions | None = None,
        ends: Iterable[int] = (),
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"{name}: the tokenizer has no end token (eos_token), so an answer could never end"
            )
        self.hf = tokenizer
        self.name = name
        self.pad_id = int(
            tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        )
        self._ends = frozenset(map(int, ends))
        self._chat_options = ChatOptions() if chat is None else chat
        self.vocabulary = Vocabulary(tokenizer, name)
        self._data_cached = lru_cache(maxsize=50_000)(self._encode_data)
        self._template_cached = lru_cache(maxsize=10_000)(self._encode_template)
        self._segment_cached = lru_cache(maxsize=50_000)(self._encode_segment)
        self._continued_cached = lru_cache(maxsize=10_000)(self._continued)
        self._length_cached = lru_cache(maxsize=200_000)(lambda text: len(self.data(text)))
        self._cut_cached = lru_cache(maxsize=200_000)(self._cut)
        self.memory: Callable[[str], list[int] | None] = lambda text: None
        """Where a user's text of `lines` is looked up first (see `ragdro.lm.token_store`)."""

    @cached_property
    def chat(self) -> ChatFormat | None:
        """How a turn is written; None: prompts are plain text. Raises `ModelError` (see `ChatFormat`)."""
        return ChatFormat.of(self.hf, self.name, self._chat_options, self._control_tokens, self._ends)

    def frame(self, system: str | None = None) -> ChatFrame | None:
        """What stands around a user's turn, None for plain prompts. Raises `ModelError`."""
        return None if self.chat is None else self.chat.frame(system)

    @cached_property
    def end_id(self) -> int:
        """The token that ends an output: the one that the chat template puts behind a finished turn, else the
        tokenizer's `eos_token`. Training and scoring end answers with it."""
        end = None if self.chat is None else self.chat.end_id
        return int(self.hf.eos_token_id) if end is None else end

    @cached_property
    def end_ids(self) -> list[int]:
        """All tokens at which an output ends: `end_id`, `eos_token` and those that the checkpoint names."""
        return sorted({self.end_id, int(self.hf.eos_token_id), *self._ends})

    def template(self, text: str) -> list[int]:
        """Ids of text that we wrote; special tokens in it are parsed, none is added."""
        return list(self._template_cached(text)) if text else []

    def data(self, text: str, limit: int | None = None) -> list[int]:
        """Ids of text that a user wrote, cut to `limit` tokens; none of them is a special token."""
        return list(self._data_cached(text))[:limit]

    def lines(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each of the users' texts on a line of its own, the newline behind it included; nothing where
        they depend on what stands around the line."""
        ids_of_texts: list[list[int]] = [[] for _ in texts]
        if self._newlines_are_borders:
            chosen = [i for i, text in enumerate(texts) if text[:1].isalnum()]
            whole = self.vocabulary.joined_many([("x\n", texts[i], "\nx") for i in chosen])
            for i, ids in zip(chosen, whole, strict=True):
                ids_of_texts[i] = self._between(ids, True, True) or []
        return ids_of_texts

    def prompt(self, segments: Sequence[Parts]) -> list[int]:
        """Ids of the segments as one text. A segment ends in a newline of ours, which no token crosses."""
        pieces = self._one_by_one(segments)
        if pieces is not None:
            return [i for piece in pieces for i in piece]
        parts = join_parts(segments)
        cached = sum(map(len, parts)) < _CACHED_CHARACTERS
        whole = (self._segment_cached if cached else self._encode_segment)(parts, False, False)
        assert whole is not None
        return whole.tolist()

    def tokenise(self, segments: Sequence[Parts]) -> None:
        """Remember the ids of the segments for prompts to come, where they do not depend on one another."""
        self._one_by_one(segments)

    def apart(self, pieces: Sequence[Sequence[str]]) -> list[list[int]]:
        """Ids of pieces of one text, in parts as a segment's, none of which depends on the others: where a
        piece can be cut out of a longer text at its borders, those that it has there."""
        last, encoded = len(pieces) - 1, []
        for i, parts in enumerate(map(tuple, pieces)):
            ids = self._segment_cached(parts, i > 0, i < last) if self._newlines_are_borders else None
            if ids is None:
                ids = self._segment_cached(parts, False, False)
            assert ids is not None
            encoded.append(ids.tolist())
        return encoded

    def prompt_with_ends(
        self, segments: Sequence[Parts], places: Sequence[Place]
    ) -> tuple[list[int], list[int]]:
        """Ids of the segments as one text and, for each of the places (in order), which token has the last
        character before it.

        Raises `ModelError` for a tokenizer that does not say which characters a token stands for.
        """
        pieces = self._one_by_one(segments)
        borders = [(s, len(parts) - 1, len(parts[-1])) for s, parts in enumerate(segments)]
        if pieces is not None and all(borders[place[0]] == place for place in places):
            behind = list(accumulate(map(len, pieces)))
            return [i for piece in pieces for i in piece], [behind[s] - 1 for s, _, _ in places]
        parts, numbers = parted(segments, places)
        ids, ends = self.vocabulary.joined_with_ends(parts)
        return ids, [ends[i] for i in numbers]

    def _one_by_one(self, segments: Sequence[Parts]) -> list[array[int]] | None:
        """Ids of each segment; None where they depend on what stands beside it."""
        if len(segments) < 2 or not self._newlines_are_borders:
            return None
        last = len(segments) - 1
        pieces: list[array[int]] = []
        for i, parts in enumerate(segments):
            encoded = self._segment_cached(parts, i > 0, i < last)
            if encoded is None:
                return None
            pieces.append(encoded)
        return pieces

    def continuation(self, before: str, text: str) -> list[int]:
        """Ids of a user's `text` as a model writes it behind `before`, which is ours: those that it has in
        the whole text or, where the border is inside a token of that, those behind an end token."""
        return list(self._continued_cached(before, text))

    def _continued(self, before: str, text: str) -> tuple[int, ...]:
        for ours in (before, str(self.hf.eos_token)):
            head, whole = self.template(ours), self.vocabulary.joined((ours, text, ""))
            if whole[: len(head)] == head:
                return tuple(whole[len(head) :])
        return tuple(self.data(text))

    def behind(self, before: str, text: str) -> list[int]:
        """Ids of our `text` as it stands behind `before`, which is ours as well; where the border is inside a
        token, those that it has behind an end token, or by itself."""
        for ours in (before, str(self.hf.eos_token)):
            head, whole = self.template(ours), self.template(ours + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return self.template(text)

    def length(self, text: str) -> int:
        """How many tokens a user's `text` is by itself."""
        return self._length_cached(text)

    def cut(self, text: str, limit: int, *, turns: bool = False) -> str:
        """The longest beginning of `text` that ends where a token does and takes at most `limit` tokens.

        `turns`: of a text of several lines whole lines are left out first, from the front: in a dialogue what
        is asked stands in the last one.
        """
        return self._cut_cached(text, limit, turns)

    @cached_property
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
        return self.vocabulary.fingerprint().encode()

    def _control_tokens(self, text: str) -> list[int]:
        return [i for i in self.template(text) if i in self.vocabulary.control or i == self.hf.eos_token_id]

    def _encode_template(self, text: str) -> tuple[int, ...]:
        return tuple(self.vocabulary.parsed(text))

    def _encode_data(self, text: str) -> tuple[int, ...]:
        return tuple(self.vocabulary.spelled(text))

    @cached_property
    def _newlines_are_borders(self) -> bool:
        """Whether a text may be tokenised in pieces that end in a newline before something visible: no token
        of the vocabulary crosses one, and nothing that stands on either side changes the other."""
        crossed = not self.vocabulary.is_fast or any(map(_ACROSS_A_NEWLINE.search, self.hf.get_vocab()))
        return not crossed and all(
            self._pieces(f"{left}\n", right) == self.vocabulary.parsed(f"{left}\n{right}")
            for left in _BEFORE_A_NEWLINE
            for right in _BEHIND_A_NEWLINE
        )

    def _pieces(self, left: str, right: str) -> list[int] | None:
        one, other = self._encode_segment((left,), False, True), self._encode_segment((right,), True, False)
        return None if one is None or other is None else [*one, *other]

    def _encode_segment(self, parts: Parts, behind: bool, before: bool) -> array[int] | None:
        """Ids of a segment of a text in which there is something in front of it (`behind`) or after it
        (`before`): a letter stands there. None where the tokens cannot be separated from that letter's."""
        if behind and before and parts[::2] == ("", "\n") and (known := self.memory(parts[1])):
            return array("i", known)
        lead, trail = "x\n" if behind else "", "x" if before else ""
        inner = (lead + parts[0], *parts[1:-1], parts[-1] + trail)
        ids = self.vocabulary.joined(inner if len(parts) > 1 else (lead + parts[0] + trail,))
        own = self._between(ids, behind, before)
        return None if own is None else array("i", own)

    def _between(self, ids: list[int], behind: bool, before: bool) -> list[int] | None:
        """Without the letters that stand for what is around a segment; None where they are not apart."""
        head, tail = self._neighbours if behind or before else ([], [])
        begin, stop = len(head) if behind else 0, len(ids) - (len(tail) if before else 0)
        joined = (behind and ids[:begin] != head) or (before and ids[stop:] != tail)
        return None if joined else ids[begin:stop]

    @cached_property
    def _neighbours(self) -> tuple[list[int], list[int]]:
        lead = self.vocabulary.parsed("x\n")
        return lead, self.vocabulary.parsed("x\nx")[len(lead) :]

    def _cut(self, text: str, limit: int, turns: bool) -> str:
        line = self.memory(text)
        # A line has a newline more than the text alone, which may have a space more in front.
        if (line and len(line) + 1 <= limit) or self.length(text) <= limit:
            return text
        if turns:
            text = text.rstrip()
            while "\n" in text and self.length(text) > limit:
                text = text.partition("\n")[2].lstrip("\n")
        if not self.vocabulary.is_fast:
            return self._cut_by_halves(text, limit)
        ends = self.vocabulary.ends(text)
        for count in range(min(limit, len(ends)), 0, -1):
            if self.length(text[: ends[count - 1]]) <= limit:
                return text[: ends[count - 1]]
        return ""

    def _cut_by_halves(self, text: str, limit: int) -> str:
        """`cut` of a tokenizer that does not say where its tokens end."""
        fits, over = 0, len(text) + 1
        while over - fits > 1:
            middle = (fits + over) // 2
            fits, over = (middle, over) if self.length(text[:middle]) <= limit else (fits, middle)
        return text[:fits]
