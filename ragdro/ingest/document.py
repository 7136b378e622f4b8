"""What a reader makes of a file: documents, and the reason where there is nothing to make.

A file is one document, or one document a row. Everything that is known of a document's inside is a place
in its text, so that cutting it into passages needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ragdro.errors import RagdroError


class UnreadableError(RagdroError):
    """A file, or a row of one, that gives no text: the reason and what to do, without the path."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading in the text: characters start to end, its level (1 is the highest) and what it says."""

    start: int
    end: int
    level: int
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is known of it.

    `title` is empty where the document has none. `body` is where the text begins that belongs into
    passages (after a front matter). `numbering` says what `breaks` are: where each page or slide starts;
    `row` is the row it came from. `markdown`: its paragraphs are cut as Markdown's blocks are.
    """

    text: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    body: int = 0
    numbering: Literal["page", "slide"] | None = None
    breaks: tuple[int, ...] = ()
    row: int | None = None
    markdown: bool = False


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the caller says of the files: columns of tables, and the encoding of what is not UTF-8."""

    text_fields: tuple[str, ...] = ()
    title_field: str | None = None
    encoding: str | None = None


@dataclass(slots=True)
class Remarks:
    """What a reader has to say beside the text: `problems` lose text, `notes` do not."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more_problems: int = 0

    def problem(self, text: str) -> None:
        """Counts a problem; the first few are kept in words."""
        if len(self.problems) < _KEPT:
            self.problems.append(text)
        else:
            self.more_problems += 1


_KEPT = 5

Reader: TypeAlias = Callable[[Path, ReadOptions, Remarks], Iterator[Document]]
"""Reads one file. Raises UnreadableError, and OSError where the file cannot be opened."""


class TextBuilder:
    """A text that grows block by block, with the headings in it."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._headings: list[Heading] = []
        self.length = 0

    def add(self, text: str, *, level: int | None = None, end: str = "\n\n") -> None:
        """Adds a block and the line ends after it, a heading where it has a `level`; nothing if blank."""
        text = text.strip("\n")
        if not text.strip():
            return
        if level is not None:
            title = " ".join(text.split())
            self._headings.append(Heading(self.length, self.length + len(text), level, title))
        self._parts.append(text + end)
        self.length += len(text) + len(end)

    def gap(self) -> None:
        """Sees to an empty line before what comes next."""
        if self._parts and not "".join(self._parts[-2:]).endswith("\n\n"):
            self._parts.append("\n")
            self.length += 1

    def begin(self, title: str) -> None:
        """Begins a section that has a title but no heading in the text."""
        self._headings.append(Heading(self.length, self.length, 1, title))

    @property
    def text(self) -> str:
        """All blocks so far."""
        return "".join(self._parts)

    @property
    def headings(self) -> tuple[Heading, ...]:
        """The headings so far."""
        return tuple(self._headings)
