"""A verdict on a terminal: what happened in bold, then why, what next, and what to mind."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragdro.evaluation.verdict import Verdict
from ragdro.report.plain import one_line

COLOURS = {"better": "bold green", "open": "bold yellow", "worse": "bold red"}


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """Print it, within the width that there is."""
    console = console or Console(highlight=False)
    first, *others = verdict.lines()
    console.print()
    console.print(Text(first[1], style=COLOURS[verdict.level]))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    last = ""
    for word, text in others:
        if word:
            table.add_row("" if word == last else word, Text(one_line(text)))
            last = word
        else:
            console.print(Text(one_line(text)))
    console.print(table)
