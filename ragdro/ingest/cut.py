"""A document → passages of at most so many tokens, cut at headings, paragraphs, sentences, words.

Cuts give spans of the text. Without overlap they lie end to end: nothing is lost, nothing is there twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

import regex

from ragdro.errors import ConfigError, DataError, ModelError
from ragdro.ingest.document import Document, Heading
from ragdro.types import Passage, PassageSource

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter, TextSplitter

Span: TypeAlias = tuple[int, int]
"""Characters of a text: the first, and one past the last."""

CountTokens: TypeAlias = Callable[[str], int]

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LONG = 16
_UNSPACED_CHARACTER = regex.compile(rf"[{_UNSPACED}]")
_WORD = regex.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,{_LONG}}}")
_LONGEST_TITLE = 120
_TOKENIZER = "tokenizer.json"


def count_words(text: str) -> int:
    """Words between white space; longer than 16 characters counts as one more for each 16 begun.

    In scripts without spaces (Chinese, Japanese, Thai, …) a character counts as a word.
    """
    if not text.isascii() and _UNSPACED_CHARACTER.search(text):
        return len(_WORD.findall(text))
    words = text.split()
    return len(words) + sum((len(word) - 1) // _LONG for word in words if len(word) > _LONG)


def tokenizer_description(source: str) -> str:
    """What is in the `tokenizer.json` of a Hugging Face tokenizer: a folder or file of one, or a hub name.

    Raises DataError where there is none that can be read, ModelError where there is none.
    """
    path = Path(source)
    if path.is_dir():
        path = path / _TOKENIZER
    try:
        if not path.is_file():
            path = _of_hub(source)
        described = path.read_text(encoding="utf-8")
        token_counter(described)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"no tokenizer.json that can be read ({reason}): give a folder with one", path=source
        ) from error
    return described


def _of_hub(source: str) -> Path:
    """The `tokenizer.json` of a hub name. Raises ModelError."""
    from ragdro.hub import find_file

    path = find_file(source, _TOKENIZER, files=(_TOKENIZER,))
    if path is None:
        raise ModelError(f"{source}: holds no {_TOKENIZER}; name a model that has one")
    return path


def token_counter(described: str) -> CountTokens:
    """Counts the tokens of the tokenizer in a `tokenizer.json`; ValueError where it describes none."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(described)
    except Exception as error:
        if type(error) is not Exception:  # the library has no class of its own for its errors
            raise
        raise ValueError(str(error)) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


class Cutter:
    """Cuts documents into passages of at most `tokens` tokens, of which `overlap` repeat the ones before.

    A word that is longer than the budget on its own is cut in it. The title does not count.
    """

    def __init__(self, tokens: int, overlap: int = 0, count: CountTokens = count_words) -> None:
        if tokens < 1:
            raise ConfigError(f"--tokens must be at least 1, not {tokens}")
        if not 0 <= overlap < tokens:
            raise ConfigError(f"--overlap must be below --tokens ({tokens}) and not negative, is {overlap}")
        self.tokens, self.overlap, self.count = tokens, overlap, count
        self._splitters: dict[tuple[int, bool], TextSplitter | MarkdownSplitter] = {}

    def passages(self, document: Document, path: str) -> Iterator[Passage]:
        """The passages of a document that was read from `path`, relative to the ingested folder.

        An id is a hash of the path, the row, the text, and how often this text came before in this document:
        it does not depend on other files, nor on what is changed elsewhere in this one.
        """
        seen: Counter[str] = Counter()
        name = document.title or str(PurePosixPath(path).with_suffix(""))
        for title, spans in sections(document, self):
            for start, end in spans:
                text = document.text[start:end]
                seen[text] += 1
                key = "\x00".join((path, str(document.row or ""), str(seen[text]), text))
                yield Passage(
                    blake2b(key.encode(), digest_size=10).hexdigest(),
                    " > ".join(_short(part) for part in (name, *title) if part),
                    text,
                    source=_source(document, path, start, end),
                )

    def spans(self, text: str, start: int, end: int, *, markdown: bool, keep: int = 0) -> list[Span]:
        """Cuts characters start..end-1 of a text; the first `keep` (a heading) stay with what follows.

        No span is without visible characters, unless the whole text is.
        """
        heading = self.count(text[start : start + keep]) if keep else 0
        if heading > (self.tokens - self.overlap) // 2:
            heading = keep = 0
        spans: list[Span] = []
        splitter = self._splitter(self.tokens - heading, markdown)
        for offset, piece in splitter.chunk_indices(text[start + keep : end]):
            first = start + keep + offset
            last = first + len(piece)
            if spans and not (piece.strip() and text[spans[-1][0] : spans[-1][1]].strip()):
                first = spans.pop()[0]
            spans.append((first, last))
        if len(spans) > 1 and not text[spans[-1][0] : spans[-1][1]].strip():
            last = spans.pop()[1]
            spans[-1] = (spans[-1][0], last)
        return [(start, spans[0][1]), *spans[1:]] if spans else [(start, end)]

    def _splitter(self, tokens: int, markdown: bool) -> TextSplitter | MarkdownSplitter:
        from semantic_text_splitter import MarkdownSplitter, TextSplitter

        if (tokens, markdown) not in self._splitters:
            kind = MarkdownSplitter if markdown else TextSplitter
            made = kind.from_callback(self._bounded, tokens, self.overlap, trim=False)
            self._splitters[tokens, markdown] = made
        return self._splitters[tokens, markdown]

    @cached_property
    def _enough(self) -> int:
        return 20 * (self.tokens + 1)

    def _bounded(self, text: str) -> int:
        """The tokens of a text, or of as much of it as is already more than any budget: texts are long."""
        begun = self.count(text[: self._enough])
        return begun if begun > self.tokens or len(text) <= self._enough else self.count(text)


def sections(document: Document, cutter: Cutter) -> Iterator[tuple[tuple[str, ...], list[Span]]]:
    """The path of headings and the spans of each section; a heading without text joins the next section."""
    text = document.text
    path: list[Heading] = []
    bounds: list[tuple[tuple[str, ...], int, int, int]] = []  # titles, start, end of the headings, end
    headings = [heading for heading in document.headings if heading.start >= document.body]
    start = kept = document.body
    for number in range(len(headings) + 1):
        end = headings[number].start if number < len(headings) else len(text)
        if number:
            heading = headings[number - 1]
            path = [*(above for above in path if above.level < heading.level), heading]
            kept = heading.end
        last = number == len(headings)
        if not text[start if last else kept : end].strip():
            continue  # white space, or headings alone: part of the next section
        titles = tuple(above.title for above in path if above.title != document.title)
        bounds.append((titles, start, kept, end))
        start = kept = end
    if bounds and start < len(text):
        bounds[-1] = (*bounds[-1][:3], len(text))
    for titles, first, kept, end in bounds:
        yield titles, cutter.spans(text, first, end, markdown=document.markdown, keep=kept - first)


def _source(document: Document, path: str, start: int, end: int) -> PassageSource:
    visible = end - len(document.text[start:end].lstrip())
    number = bisect_right(document.breaks, visible) or None
    return PassageSource(
        path,
        start,
        end,
        page=number if document.numbering == "page" else None,
        slide=number if document.numbering == "slide" else None,
        row=document.row,
    )


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
