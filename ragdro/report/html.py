"""One HTML page that needs nothing else: no network, readable on a phone, in the dark and on paper.

In: text that anybody wrote, sheets and pictures. Out: HTML in which such text has no meaning. Everything
that makes HTML here returns `Html`; a plain string becomes part of a page only through `escaped`. The one
script is ours (`page.js`: the search), named by its hash; no other runs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import NewType

from ragdro.report.plain import harmless, one_line
from ragdro.report.table import Table

Html = NewType("Html", str)

_CSS = (files("ragdro.report") / "page.css").read_text(encoding="utf-8")
_SCRIPT = (files("ragdro.report") / "page.js").read_text(encoding="utf-8")


def escaped(text: str) -> Html:
    """Text of data or models, in one line, without any meaning to a browser."""
    return Html(escape(one_line(text)))


def page(title: str, parts: Iterable[Html]) -> str:
    """A whole document."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>\n{_CSS}</style>\n</head>\n<body>\n"
    )
    body = f"<h1>{escaped(title)}</h1>\n{join(parts)}"
    return f"{head}{body}<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def join(parts: Iterable[Html]) -> Html:
    """Parts after one another."""
    return Html("".join(parts))


def heading(text: str, level: int = 2) -> Html:
    """A heading."""
    return Html(f"<h{level}>{escaped(text)}</h{level}>\n")


def paragraph(text: str, kind: str = "") -> Html:
    """A paragraph; `kind` is one of the style's classes."""
    return Html(f"<p{_class(kind)}>{escaped(text)}</p>\n")


def inline(text: str, kind: str) -> Html:
    """A piece of text of a kind inside other HTML."""
    return Html(f"<span{_class(kind)}>{escaped(text)}</span>")


def code(text: str) -> Html:
    """Lines as they are, for configs and commands."""
    return Html(
        "<pre>" + "\n".join(escape(harmless(line)) for line in text.rstrip("\n").split("\n")) + "</pre>\n"
    )


def items(texts: Iterable[Html], kind: str = "", *, ordered: bool = False) -> Html:
    """A list."""
    tag = "ol" if ordered else "ul"
    inner = join(Html(f"<li>{text}</li>") for text in texts)
    return Html(f"<{tag}{_class(kind)}>{inner}</{tag}>\n")


def folded(summary: Html, inner: Html, kind: str = "", *, sort: str = "") -> Html:
    """What opens on a click; `sort` is what a choice on the page tells it apart by."""
    data = f' data-sort="{escape(one_line(sort), quote=True)}"' if sort else ""
    return Html(f"<details{_class(kind)}{data}><summary>{summary}</summary>\n{inner}</details>\n")


def block(inner: Iterable[Html], kind: str) -> Html:
    """Parts that belong together, of a kind."""
    return Html(f"<div{_class(kind)}>\n{join(inner)}</div>\n")


def pairs(rows: Iterable[tuple[str, str]]) -> Html:
    """What is said of one thing: names, and what they stand for."""
    inner = join(Html(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>\n") for name, value in rows)
    return Html(f"<dl>\n{inner}</dl>\n")


def searched(inner: Html, sorts: Iterable[str]) -> Html:
    """Folded parts with a field that searches them, and a choice of their sorts."""
    options = join(Html(f"<option>{escaped(sort)}</option>") for sort in sorts)
    return Html(
        '<div class="search"><label>Search <input type="search" class="words"></label> '
        f'<label>Show <select class="sorts"><option value="">all</option>{options}</select></label> '
        f'<span class="dim" role="status"></span>\n<div class="found">\n{inner}</div></div>\n'
    )


def table(table: Table) -> Html:
    """A table that scrolls where the screen is narrow."""
    return cells(table.columns, (map(escaped, row) for row in table.shown()))


def cells(columns: Iterable[str], rows_of_cells: Iterable[Iterable[Html]]) -> Html:
    """The same of cells that are HTML."""
    head = join(Html(f'<th scope="col">{escaped(name)}</th>') for name in columns)
    rows = join(
        Html("<tr>" + join(Html(f"<td>{cell}</td>") for cell in row) + "</tr>\n") for row in rows_of_cells
    )
    return Html(
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n'
    )


def picture(data: bytes, alternative: str, kind: str = "svg+xml") -> Html:
    """An image inside the page: in an `img` an SVG runs nothing and shares no names with another."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Html(f'<img alt="{escape(one_line(alternative), quote=True)}" src="{source}">\n')


def side_by_side(pictures: Iterable[Html]) -> Html:
    """Pictures next to one another, four in a row where the screen has room for it, fewer elsewhere."""
    return Html(f'<div class="row">\n{join(pictures)}</div>\n')


def framed(picture_: Html) -> Html:
    """A picture of a row."""
    return Html(f"<figure>\n{picture_}</figure>\n")


def scrolled(picture_: Html) -> Html:
    """A picture too wide for a phone, which is scrolled there and not shrunk."""
    return Html(f'<div class="wide">\n{picture_}</div>\n')


def _class(kind: str) -> str:
    return f' class="{escape(kind, quote=True)}"' if kind else ""
