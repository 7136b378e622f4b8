"""`ragdro config`: every setting with its meaning."""

from __future__ import annotations

from typing import Annotated

import typer


def config(
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]", help="a section or a setting: selector, objective.rloo, m_step.selector"
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="print a Markdown page (docs/reference/config.md)")
    ] = False,
) -> None:
    """Show the settings of a config: meaning, type, default and range."""
    from ragdro.config.reference import look_up, sections
    from ragdro.report.settings import as_markdown, print_sections

    listed = sections() if key is None else look_up(key)
    if markdown:
        typer.echo(as_markdown(listed), nl=False)
    else:
        print_sections(listed)
