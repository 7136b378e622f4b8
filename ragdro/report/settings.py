"""The settings of a config on a terminal, as plain lines, and as a Markdown page. No torch.

In: sections of `ragdro.config.reference`. Out: on a terminal a table for each; elsewhere one line for each
setting, `dotted.key: default  # meaning (type; range)`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ragdro.config.reference import Section, Setting

_HEAD = """# Every setting of a config

`ragdro config` shows the same on a terminal, `ragdro config retriever.dense` one section of it,
`ragdro config top_n` one setting. A section with several kinds is chosen by its `kind` (or `type`):
`retriever: {kind: dense, model: ...}`. Its keys are then written without the kind: `retriever.model`.

This page is written by `ragdro config --markdown > docs/reference/config.md`; the texts are those of the
fields in `ragdro/config/` and `ragdro/algorithms/`.
"""


def print_sections(sections: Sequence[Section], console: Console | None = None) -> None:
    """Print them for whoever reads: a person at a terminal, or a program."""
    console = console or Console()
    for section in sections:
        if console.is_terminal:
            _print_table(section, console)
        else:
            console.print(
                "\n".join(_lines(section)), markup=False, highlight=False, emoji=False, soft_wrap=True
            )


def as_markdown(sections: Sequence[Section]) -> str:
    """The page: a heading and a table for each section."""
    parts = [_HEAD]
    for section in sections:
        heading = " and ".join(f"`{place}`" for place in section.places) if section.name else "At the top"
        parts.append(f"## {heading}\n\n{_cell(section.about)}\n")
        if section.settings:
            rows = ["| key | default | value | meaning |", "|---|---|---|---|"]
            rows += map(_row, section.settings)
            parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _print_table(section: Section, console: Console) -> None:
    console.print(Text("  ".join(section.places) or "config", style="bold"))
    console.print(Text(section.about, style="dim"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(style="green", max_width=16, overflow="fold")
    table.add_column()
    for setting in section.settings:
        meaning = Text(setting.description)
        meaning.append(f"\n{_values(setting)}", style="dim")
        table.add_row(Text(setting.name), Text(setting.default), meaning)
    console.print(table)
    console.print()


def _lines(section: Section) -> list[str]:
    """One line a setting, under every name that the section has."""
    return [
        f"{f'{place}.' if place else ''}{s.name}: {s.default}".rstrip()
        + f"  # {s.description} ({_values(s)})"
        for place in section.places
        for s in section.settings
    ]


def _values(setting: Setting) -> str:
    return f"{setting.type}; {setting.limits}" if setting.limits else setting.type


def _row(setting: Setting) -> str:
    default = f"`{setting.default}`" if setting.default else ""
    cells = (
        f"`{setting.name}`",
        default,
        _cell(_pattern_as_code(_values(setting))),
        _cell(setting.description),
    )
    return f"| {' | '.join(cells)} |"


def _pattern_as_code(values: str) -> str:
    """A regular expression is code: as text, Markdown takes its brackets for a link."""
    return re.sub(r"(?<=matches )\S+", lambda match: f"`{match[0]}`", values)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
