"""A tokenizer's vocabulary with its control tokens kept apart from what anybody may write.

In: a Hugging Face tokenizer and texts of which some parts are ours and some are users'. Out: token ids as
the tokenizer makes them of the whole text, in which a control token stands only where our part names it.

A control token is one that the tokenizer calls special, or one that it adds to the base vocabulary (such as
`<think>`), unless it is nothing but white space. The unknown token may come out of any text; its name, where
a user writes it, is spelled like any other word.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from ragdro.errors import ModelError

Place = tuple[int, int, int]
"""A border in segments of a text: which segment, which of its parts (one of ours), behind how many of that
part's characters."""
Parts = tuple[str, ...]
"""A text in parts: ours at even places, a user's at odd ones; the first and the last are ours."""
_SENTINELS = range(0xF0000, 0xFFFFE)
"""Private-use characters; one that the text at hand does not hold marks control tokens in it."""


class Vocabulary:
    """What `tokenizer` makes of texts. `name` is the model's, for messages.

    `control`: the ids that no user's text may become.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self._hf = tokenizer
        self._name = name
        self._full: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        self._plain: Tokenizer | None = None
        self.control = self._prepare()
        hidden = {*self.control, tokenizer.unk_token_id} - {None}
        self._hidden = {int(i): str(tokenizer.convert_ids_to_tokens(int(i))) for i in hidden}
        surfaces = sorted((s for s in self._hidden.values() if len(s) > 1), key=len, reverse=True)
        self._surface = re.compile("|".join(map(re.escape, surfaces)), re.IGNORECASE) if surfaces else None
        self._expected = lru_cache(maxsize=10_000)(self._control_tokens_of)
        self._renamed = lru_cache(maxsize=2)(self._rename)

    @property
    def is_fast(self) -> bool:
        """Whether the tokenizer says which characters a token stands for."""
        return self._plain is not None

    def fingerprint(self) -> str:
        """Equal for tokenizers that turn users' texts into the same ids."""
        control = ",".join(map(str, sorted(self.control)))
        if self._plain is None:  # its name is all there is to go by
            return f"{type(self._hf).__name__} {self._name} {len(self._hf)} {control}"
        return f"{self._plain.to_str()} {control}"

    def parsed(self, text: str) -> list[int]:
        """Ids of text that is all ours: its control tokens are parsed, none is added."""
        if self._full is None:
            return list(self._hf.encode(text, add_special_tokens=False))
        return list(self._full.encode(text, add_special_tokens=False).ids)

    def spelled(self, text: str) -> list[int]:
        """Ids of text that is all a user's, none of them a control token.

        Raises `ModelError` for a tokenizer that makes one out of plain text whatever is done.
        """
        ids = self._bare(text)
        if self.control.isdisjoint(ids):
            return ids
        ids = [i for piece in self._broken_apart(text) for i in self._bare(piece)]
        return self._refuse_control(ids)

    def ends(self, text: str) -> list[int]:
        """The place in `text` behind each of its tokens, of a tokenizer that `is_fast`; a token that ends
        within a character gets the place before it, so that no text is cut there."""
        assert self._plain is not None
        offsets = self._plain.encode(text, add_special_tokens=False).offsets
        starts = [start for start, _ in offsets[1:]] + [len(text)]
        return [min(end, start) for (_, end), start in zip(offsets, starts, strict=True)]

    def joined(self, parts: Parts) -> list[int]:
        """Ids of the parts as one text; control tokens are those that our parts name, in their order.

        Raises `ModelError` as `spelled` does.
        """
        return self.joined_many([parts])[0]

    def joined_many(self, texts: Sequence[Parts]) -> list[list[int]]:
        """`joined` of each text; a fast tokenizer takes them all at once, on all cores."""
        return [
            self._apart(parts)
            if ids is None or tuple(i for i in ids if i in self.control) != self._expected(parts[::2])
            else ids
            for parts, ids in zip(texts, self._parsed_many(texts), strict=True)
        ]

    def _parsed_many(self, texts: Sequence[Parts]) -> list[list[int] | None]:
        """`parsed` of each text as one; None where a user's part names a control token."""
        whole = [None if self._is_named(parts) else "".join(parts) for parts in texts]
        if self._full is None or len(texts) == 1:
            return [None if text is None else self.parsed(text) for text in whole]
        chosen = [text for text in whole if text is not None]
        encoded = iter(self._full.encode_batch_fast(chosen, add_special_tokens=False))
        return [None if text is None else list(next(encoded).ids) for text in whole]

    def _is_named(self, parts: Parts) -> bool:
        """Whether a user's part names a control token."""
        return self._surface is not None and any(map(self._surface.search, parts[1::2]))

    def joined_with_ends(self, parts: Parts) -> tuple[list[int], list[int]]:
        """`joined`, and for each of our parts which of the tokens has its last character (of an empty one:
        the character before it).

        Raises `ModelError` for a tokenizer that is not `is_fast`, and as `spelled` does.
        """
        if self._full is None:
            raise ModelError(
                f"{self._name}: its tokenizer does not say which characters a token stands for; a pointer"
                " selector needs one that does (a fast one)"
            )
        if not self._is_named(parts):
            encoding = self._full.encode("".join(parts), add_special_tokens=False)
            if tuple(i for i in encoding.ids if i in self.control) == self._expected(parts[::2]):
                starts = [start for start, _ in encoding.offsets]
                behind = list(accumulate(map(len, parts)))[::2]
                return list(encoding.ids), _last_before(behind, starts)
        ids, starts, behind = self._in_pieces(parts)
        return ids, _last_before(behind, starts)

    def _control_tokens_of(self, ours: Parts) -> tuple[int, ...]:
        """The control tokens of our parts where a harmless letter stands for each of the users'."""
        return tuple(i for i in self.parsed("a".join(ours)) if i in self.control)

    def _apart(self, parts: Parts) -> list[int]:
        """`joined` where a user's text names a control token, or makes one together with ours.

        Our control tokens are renamed to what no part holds, so that none but them is parsed; a name that is
        a word of the base vocabulary as well is also broken apart, at last at every border of the parts.
        """
        if self._full is None:
            return [
                i
                for place, part in enumerate(parts)
                for i in (self.spelled if place % 2 else self.parsed)(part)
            ]
        return self._in_pieces(parts)[0]

    def _in_pieces(self, parts: Parts) -> tuple[list[int], list[int], list[int]]:
        """`_apart` of a tokenizer that `is_fast`: ids, where each begins and where each of our parts ends, in
        characters of the text with its control tokens renamed."""
        mark = next(char for char in map(chr, _SENTINELS) if char not in "".join(parts))
        tokenizer, ids_of = self._renamed(mark)
        ours, cut = self._marked(parts[::2], mark), f"{mark}b{mark}"
        users = [cut.join(self._broken_apart(part)) for part in parts[1::2]]
        for texts, border in ((parts[1::2], ""), (users, ""), (users, cut)):
            pieces = [ours[0]]
            for user, own in zip(texts, ours[1:], strict=True):
                pieces += [border, user, border, own]
            encoding = tokenizer.encode("".join(pieces), add_special_tokens=False)
            if self.control.isdisjoint(token for token in encoding.ids if token not in ids_of):
                break
        self._refuse_control([token for token in encoding.ids if token not in ids_of])
        begun = [
            (i, start)
            for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            if (i := ids_of.get(token, token)) >= 0
        ]
        behind = list(accumulate(map(len, pieces)))[::4]
        return [i for i, _ in begun], [start for _, start in begun], behind

    def _marked(self, ours: Sequence[str], mark: str) -> list[str]:
        """Our parts with their control tokens under the names that `_rename` gives them."""
        assert self._full is not None
        encoding = self._full.encode("a".join(ours), add_special_tokens=False)
        starts = [0]
        for part in ours:
            starts.append(starts[-1] + len(part) + 1)
        marked = list(ours)
        tokens = list(zip(encoding.ids, encoding.offsets, strict=True))
        for token, (start, stop) in reversed(tokens):  # from behind, so that places in front stay right
            place = next(i for i in range(len(ours)) if start < starts[i + 1])
            begin, end = start - starts[place], stop - starts[place]
            surface = ours[place][begin:end].strip()
            if token in self._hidden and surface == self._hidden[token]:
                begin += ours[place][begin:end].index(surface)
                marked[place] = (
                    f"{marked[place][:begin]}{mark}{token}{mark}{marked[place][begin + len(surface) :]}"
                )
        return marked

    def _rename(self, mark: str) -> tuple[Tokenizer, dict[int, int]]:
        """The tokenizer with its control tokens renamed, and what its ids of them stand for (-1: a mere
        border)."""
        assert self._plain is not None
        spec = json.loads(self._plain.to_str())
        names = {f"{mark}b{mark}": -1}
        for token in spec["added_tokens"]:
            if int(token["id"]) in self._hidden:
                token["content"] = f"{mark}{token['id']}{mark}"
                token["normalized"] = False
                names[token["content"]] = int(token["id"])
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        tokenizer.add_special_tokens([f"{mark}b{mark}"])
        return tokenizer, {
            token: i for name, i in names.items() if (token := tokenizer.token_to_id(name)) is not None
        }

    def _broken_apart(self, text: str) -> list[str]:
        """The text cut inside every control token's name, so that no piece holds a whole one."""
        if self._surface is None:
            return [text]
        pieces, begin = [], 0
        for match in self._surface.finditer(text):
            pieces.append(text[begin : match.start() + 1])
            begin = match.start() + 1
        return [*pieces, text[begin:]]

    def _bare(self, text: str) -> list[int]:
        if not text:
            return []
        if self._plain is not None:
            return list(self._plain.encode(text, add_special_tokens=False).ids)
        return list(self._hf.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _refuse_control(self, ids: list[int]) -> list[int]:
        if not self.control.isdisjoint(ids):
            token = self._hf.convert_ids_to_tokens([i for i in ids if i in self.control])[0]
            raise ModelError(f"{self._name}: the tokenizer turns plain text into its special token {token!r}")
        return ids

    def _prepare(self) -> frozenset[int]:
        """Make the tokenizer that parses no control token; returns their ids.

        Not parsing them is not enough where one is also a piece of the base vocabulary (SentencePiece, word
        level); so what comes out is checked as well.
        """
        control = set(self._hf.all_special_ids)
        if self._full is None:
            control |= set(self._hf.added_tokens_decoder)
            return frozenset(control - {self._hf.unk_token_id})
        self._full.no_truncation()
        self._full.no_padding()
        spec = json.loads(self._full.to_str())
        base = self._full.get_vocab(with_added_tokens=False)
        for token in spec["added_tokens"]:
            if token["special"] or (token["content"] not in base and token["content"].strip()):
                control.add(int(token["id"]))
        for token in spec["added_tokens"]:  # what is special is what is not parsed
            token["special"] = int(token["id"]) in control | {self._hf.unk_token_id}
        spec.update(post_processor=None, truncation=None, padding=None)
        self._plain = Tokenizer.from_str(json.dumps(spec))
        self._plain.encode_special_tokens = True
        return frozenset(control - {self._hf.unk_token_id})


def _last_before(places: Sequence[int], starts: Sequence[int]) -> list[int]:
    """For each place in a text the last of the tokens that begin before it, `starts` being where they do."""
    return [bisect_left(starts, place) - 1 for place in places]


def join_parts(segments: Sequence[Parts]) -> Parts:
    """The segments as one: where two meet, the last part of one and the first of the next are one part."""
    joined = list(segments[0])
    for parts in segments[1:]:
        joined[-1] += parts[0]
        joined.extend(parts[1:])
    return tuple(joined)


def parted(segments: Sequence[Parts], places: Sequence[Place]) -> tuple[Parts, list[int]]:
    """The segments as one, cut so that each place is the end of one of our parts, and which of ours it is."""
    cut: list[Parts] = []
    numbers: list[int] = []
    begun = 0
    for s, parts in enumerate(segments):
        pieces: list[str] = []
        for place, part in enumerate(parts):
            behind = 0
            for end in (end for segment, number, end in places if (segment, number) == (s, place)):
                numbers.append(begun + len(pieces) // 2)
                pieces += [part[behind:end], ""]
                behind = end
            pieces.append(part[behind:])
        cut.append(tuple(pieces))
        begun += len(pieces) // 2  # the last part of a segment and the first of the next are one
    return join_parts(cut), numbers
