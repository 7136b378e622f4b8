"""One HTML page that needs nothing else: no network, no script, readable on a phone and in the dark.

In: text that anybody wrote, sheets and pictures. Out: HTML in which such text has no meaning. Everything
that makes HTML here returns `Html`; a plain string becomes part of a page only through `escaped`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import NewType

from ragdro.report.plain import harmless, one_line
from ragdro.report.table import Table

Html = NewType("Html", str)

_CSS = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --line: #d4d4d4; --soft: #f3f3f3;
  --dim: #5c5c5c; --good: #00664b; --bad: #a33e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --line: #3b3f45;
  --soft: #22262b; --dim: #a3a8ae; --good: #4cc9a0; --bad: #ff9a5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 4px; margin: 1rem 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 1rem; }
.wide img { min-width: 44rem; }
pre { background: var(--soft); padding: .75rem; border-radius: 4px; overflow-x: auto; font-size: .85rem; }
details { margin: .5rem 0; } summary { cursor: pointer; }
.dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
ol.read { margin: .25rem 0 .75rem; padding-left: 2rem; font-size: .9rem; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escaped(text: str) -> Html:
    """Text of data or models, in one line, without any meaning to a browser."""
    return Html(escape(one_line(text)))


def page(title: str, parts: Iterable[Html]) -> str:
    """A whole document."""
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
    )
    return f"{head}<h1>{escaped(title)}</h1>\n{join(parts)}</body>\n</html>\n"


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


def folded(summary: str, inner: Html, *, is_open: bool = False) -> Html:
    """What opens on a click."""
    state = " open" if is_open else ""
    return Html(f"<details{state}><summary>{escaped(summary)}</summary>\n{inner}</details>\n")


def table(table: Table) -> Html:
    """A table that scrolls where the screen is narrow."""
    head = join(Html(f'<th scope="col">{escaped(name)}</th>') for name in table.columns)
    rows = join(
        Html("<tr>" + join(Html(f"<td>{escaped(cell)}</td>") for cell in row) + "</tr>\n")
        for row in table.shown()
    )
    return Html(
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n'
    )


def picture(data: bytes, alternative: str, kind: str = "svg+xml") -> Html:
    """An image inside the page: in an `img` an SVG runs nothing and shares no names with another."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return Html(f'<img alt="{escape(one_line(alternative), quote=True)}" src="{source}">\n')


def side_by_side(pictures: Iterable[Html]) -> Html:
    """Pictures next to one another where the screen has room for it, below one another elsewhere."""
    return Html(f'<div class="grid">\n{join(pictures)}</div>\n')


def scrolled(picture_: Html) -> Html:
    """A picture too wide for a phone, which is scrolled there and not shrunk."""
    return Html(f'<div class="wide">\n{picture_}</div>\n')


def _class(kind: str) -> str:
    return f' class="{escape(kind, quote=True)}"' if kind else ""
