"""HTML: the main text of a page, block by block.

Scripts, styles and forms are never text; menus, footers and asides are not where the page says what they
are. What is in `<main>` or the one `<article>` is the main text, else the whole body.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ragdro.ingest.decode import decode, plain
from ragdro.ingest.document import Document, ReadOptions, Remarks, TextBuilder

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

_NEVER = {
    *("script", "style", "noscript", "template", "svg", "math", "head", "iframe", "object", "canvas"),
    *("nav", "footer", "aside", "form", "button", "select", "textarea", "dialog", "audio", "video"),
}
_NEVER_ROLES = {"navigation", "banner", "contentinfo", "search", "complementary"}
_LINK_MARKS = {"#", "¶", "§", "🔗"}
"""What documentation puts after a heading, to link to it."""

_BLOCKS = {
    *("address", "article", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset"),
    *("figcaption", "metric", "header", "hr", "html", "li", "main", "ol", "p", "pre", "section", "summary"),
    *("table", "tbody", "thead", "tfoot", "caption", "tr", "ul", "h1", "h2", "h3", "h4", "h5", "h6"),
}
_TIGHT = {"li", "tr", "dt", "dd"}
"""Blocks that follow one another without an empty line."""

_CHARSET = re.compile(rb"""<meta[^>]*charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_HEAD_BYTES = 4096


def read_html(path: Path, options: ReadOptions, remarks: Remarks) -> Iterator[Document]:
    """The page as one document."""
    from selectolax.lexbor import LexborHTMLParser

    data = path.read_bytes()
    named = _CHARSET.search(data[:_HEAD_BYTES])
    declared = None if named is None else named.group(1).decode("ascii", "replace")
    tree = LexborHTMLParser(decode(data, remarks, encoding=options.encoding, declared=declared))
    built = TextBuilder()
    main = _main(tree)
    if main is not None:
        _Walk(built).walk(main)
    if not built.length and tree.body is not None:
        _Walk(built).walk(tree.body)
    title = _title(tree)
    yield Document(built.text, title or next((h.title for h in built.headings), ""), built.headings)


def _title(tree: LexborHTMLParser) -> str:
    node = tree.css_first("title")
    return "" if node is None else " ".join(plain(node.text()).split())


def _main(tree: LexborHTMLParser) -> LexborNode | None:
    nodes = tree.css("main, [role=main]") or tree.css("article")
    return nodes[0] if len(nodes) == 1 else None


class _Walk:
    """Goes through a tree once, without recursion: pages nest as deep as they like."""

    def __init__(self, built: TextBuilder) -> None:
        self.built = built
        self.line: list[str] = []
        self.kept = 0  # how many <pre> are open

    def walk(self, root: LexborNode) -> None:
        """Adds the text below `root` to the builder."""
        stack: list[tuple[LexborNode, bool]] = [(root, False)]
        while stack:
            node, left = stack.pop()
            tag = node.tag or ""
            if left:
                self._leave(tag)
            elif tag == "-text":
                self._text(node.text_content or "")
            elif tag not in _NEVER and not tag.startswith("-") and tag != "!--" and not _is_aside(node):
                self._enter(tag)
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(list(node.iter(include_text=True))))
        self._flush("\n\n")

    def _text(self, text: str) -> None:
        text = plain(text)
        self.line.append(text if self.kept else re.sub(r"[ \t\n\f]+", " ", text))

    def _enter(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._flush("\n" if tag in _TIGHT else "\n\n")
        if tag == "pre":
            self.kept += 1
        elif tag == "br":
            self.line.append("\n")
        elif tag == "li":
            self.line.append("- ")
        elif tag in ("td", "th") and "".join(self.line).strip():
            self.line.append(" | ")

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS:
            level = int(tag[1]) if re.fullmatch("h[1-6]", tag) else None
            self._flush("\n" if tag in _TIGHT else "\n\n", level, preformatted=tag == "pre")
        if tag == "pre":
            self.kept -= 1

    def _flush(self, end: str, level: int | None = None, *, preformatted: bool = False) -> None:
        text = "".join(self.line)
        if text.strip() == "-":
            return  # a list item whose text comes in a block of its own
        self.line = []
        if not preformatted and not self.kept:
            text = re.sub(r" *\n *", "\n", re.sub(r"[ \t]{2,}", " ", text)).strip(" ")
        self.built.add(text, level=level, end=end)
        if end == "\n\n":
            self.built.gap()


def _is_aside(node: LexborNode) -> bool:
    attributes = node.attributes
    if (attributes.get("role") or "") in _NEVER_ROLES or "hidden" in attributes:
        return True
    return node.tag == "a" and node.text().strip() in _LINK_MARKS
