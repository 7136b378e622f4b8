"""The table of a preflight: 80 columns on a terminal, plain lines elsewhere; nothing steers the terminal."""

from __future__ import annotations

from rich.console import Console

from ragdro.planning.findings import Finding
from ragdro.report.preflight import print_findings

FOUND = [
    Finding(
        "overlap",
        "problem",
        "questions are in both, such as '[bold]\x1b[31mwho is :train: it?'" + " long" * 30,
    ),
    Finding("device", "ok", "cpu"),
]


def test_a_terminal_gets_a_table_of_its_width() -> None:
    console = Console(force_terminal=True, width=80, record=True, color_system=None)
    print_findings(FOUND, console)
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80 and shown.splitlines()[-1] == "1 problem"
    assert "[bold]" in shown and ":train:" in shown and "\x1b" not in shown


def test_elsewhere_a_line_is_a_check() -> None:
    console = Console(width=80, record=True)
    print_findings(FOUND[1:], console)
    assert console.export_text().splitlines() == ["ok       device: cpu", "0 problems"]
    print_findings(FOUND, console)
    lines = console.export_text().splitlines()
    assert lines[0].startswith("problem  overlap: questions are in both, such as '[bold]") and len(lines) == 3
