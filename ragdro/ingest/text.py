"""Plain text and Markdown."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import yaml

from ragdro.ingest.decode import decode
from ragdro.ingest.document import Document, Heading, ReadOptions, Remarks

_YAML = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TOML = re.compile(r"\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def read_text(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The file as one document without headings."""
    yield Document(decode(path.read_bytes(), remarks, encoding=options.encoding))


def read_markdown(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The file as one document, marks and all; its front matter gives the title and is no text."""
    text = decode(path.read_bytes(), remarks, encoding=options.encoding)
    title, body = _front_matter(text)
    headings = _headings(text, body)
    if not title:
        title = next((heading.title for heading in headings if heading.level == 1), "")
    yield Document(text, title, headings, body=body, markdown=True)


def _front_matter(text: str) -> tuple[str, int]:
    """The title that a YAML or TOML front matter gives, and where the text after it begins."""
    for pattern, parse in ((_YAML, yaml.safe_load), (_TOML, tomllib.loads)):
        match = pattern.match(text)
        if match is None:
            continue
        try:
            values = parse(match.group(1))
        except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
            return "", 0  # then it is text between two rules
        if isinstance(values, dict):
            title = values.get("title")
            return " ".join(str(title).split()) if title is not None else "", match.end()
    return "", 0


def _headings(text: str, body: int) -> tuple[Heading, ...]:
    """The headings of the text from `body` on; those in quotations, lists and code are none."""
    from markdown_it import MarkdownIt

    starts = [body]
    starts.extend(match.end() for match in re.compile("\n").finditer(text, body))
    starts.append(len(text))
    tokens = MarkdownIt("commonmark").disable("inline").parse(text[body:])
    headings = []
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            first, last = (starts[min(line, len(starts) - 1)] for line in token.map)
            title = _unmarked(inline.content)
            if title:
                headings.append(Heading(first, last, int(token.tag[1:]), title))
    return tuple(headings)


def _unmarked(title: str) -> str:
    """A heading without the marks of links, emphasis and code."""
    title = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title)
    title = re.sub(r"(\*\*|__|\*|`)(.+?)\1", r"\2", title)
    return " ".join(title.split())
