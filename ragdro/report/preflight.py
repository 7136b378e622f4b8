"""A preflight on a terminal: one table, problems first; plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragdro.planning.findings import Finding
from ragdro.report.plain import one_line
from ragdro.units import counted

_COLOURS = {"problem": "bold red", "note": "yellow", "ok": "green"}


def print_findings(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print what was found, and how much of it is a problem."""
    console = console or Console()
    if console.is_terminal:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for width in (None, 20, None):
            table.add_column(max_width=width)
        for one in findings:
            table.add_row(
                Text(one.level, style=_COLOURS[one.level]), Text(one.check), Text(one_line(one.text))
            )
        console.print(table)
    else:
        lines = [f"{one.level:<8} {one.check}: {one_line(one.text)}" for one in findings]
        console.print("\n".join(lines), markup=False, highlight=False, emoji=False, soft_wrap=True)
    problems = sum(one.level == "problem" for one in findings)
    console.print(counted(problems, "problems"), highlight=False)
