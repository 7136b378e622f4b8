"""Tables and pages: what is shown, what a spreadsheet reads, and that data stays data."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

from ragdro.evaluation.significance import Interval
from ragdro.report import html
from ragdro.report.plot import Panel, Series, render
from ragdro.report.table import Table, estimate, shown

EVIL = '<script>alert("1")</script><img src=x onerror=alert(1)>\u202e&amp;'
SHEET = Table(
    ("", "score", "count"),
    (("a|b", Interval(0.5, 0.25, 0.75), 3), (EVIL, 0.123456, None)),
)


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.said += data


def test_a_table_as_markdown_and_as_csv() -> None:
    lines = SHEET.as_markdown().splitlines()
    assert lines[2] == "| a\\|b | 0.500 ± 0.250 | 3 |" and lines[3].endswith("| 0.123 | – |")
    rows = list(csv.reader(io.StringIO(SHEET.as_csv())))
    assert rows[0] == ["", "score", "score low", "score high", "count"]
    assert rows[1] == ["a|b", "0.5", "0.25", "0.75", "3"] and rows[2] == [EVIL, "0.123456", "", "", ""]


def test_an_interval_has_the_decimals_of_its_mean() -> None:
    assert shown(Interval(1152.0, 1152.0, 1152.0)) == "1152 ± 0"
    assert shown(Interval(53.0, 34.473, 71.527)) == "53.0 ± 18.5" and shown(53.0) == "53.0"
    assert shown(Interval(-0.5, -150.5, 149.5)) == "−0.500 ± 150.000"


def test_estimates() -> None:
    assert estimate([0.4]) == 0.4 and estimate([]) is None and estimate([0.4, None]) is None
    interval = estimate([0.0, 1.0])
    assert isinstance(interval, Interval) and interval.mean == 0.5


def test_text_of_data_is_never_markup() -> None:
    parts = [
        html.heading(EVIL), html.paragraph(EVIL, 'x" onload="y'), html.code(f"a\n  {EVIL}"),
        html.table(SHEET), html.items([html.escaped(EVIL)]), html.searched(html.escaped(EVIL), [EVIL]),
        html.folded(html.escaped(EVIL), html.inline(EVIL, "dim"), sort=EVIL), html.pairs([(EVIL, EVIL)]),
        html.picture(b"<svg/>", EVIL),
    ]  # fmt: skip
    page = html.page(EVIL, parts)
    tags = Tags(page)
    assert tags.tags.count("script") == 1 and tags.tags.count("img") == 1
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert tags.said.count("<script>alert") >= 7 and "\u202e" not in page and "  <script>" in tags.said
    sources = [value or "" for name, value in tags.attributes if name in ("src", "href")]
    assert all(source.startswith("data:") for source in sources)
    assert "http" not in page.replace("http-equiv", "")


def test_figures_are_the_same_for_the_same_figures_and_hold_every_label() -> None:
    panel = Panel(
        "title", "iteration", "fraction", (Series("first", ((0.0, 0.5), (1.0, Interval(0.6, 0.5, 0.7)))),)
    )
    rows = Panel("rows", "", "fraction", panel.series, categories=("a", "b"), marks=(("mark", 0.4),))
    svg = render([panel, rows], "the title", "svg")
    assert svg == render([panel, rows], "the title", "svg") and b"<!-- iteration -->" in svg
    assert render([panel], "the title", "png").startswith(b"\x89PNG")
