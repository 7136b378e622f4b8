"""`ragdro study`: the paper's analyses, a command each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ragdro.cli.models import Overrides, Overwrite, Resume
from ragdro.cli.paths import path_argument


def study(
    name: Annotated[
        Optional[str], typer.Argument(metavar="[NAME]", help="which one; without it they are listed")  # noqa: UP045
    ] = None,
    config: Annotated[
        Optional[Path], path_argument(metavar="CONFIG.yaml", help="config file; see configs/")  # noqa: UP045
    ] = None,
    overrides: Overrides = None,
    seeds: Annotated[
        Optional[str], typer.Option(help="'0,1,2' or '0-4'; by default the study's own")  # noqa: UP045
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at once, a process each")] = 2,
    full: Annotated[
        bool, typer.Option("--full", help="the config's own sizes, not the study's small ones")
    ] = False,
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    """Run one of the paper's analyses into RUNS/studies/NAME/: tables, figure, command, page."""
    from ragdro.errors import ConfigError
    from ragdro.studies.catalogue import STUDIES, find_study

    if name is None:
        for known in STUDIES.values():
            typer.echo(f"{known.name:<18}{known.about}")
        return
    chosen = find_study(name)
    if config is None:
        raise ConfigError(f"study '{name}': no config given (ragdro study {name} CONFIG.yaml)")
    from ragdro.studies.plan import parse_seeds, plan
    from ragdro.studies.run import run_study

    planned = plan(chosen, config, overrides or (), None if seeds is None else parse_seeds(seeds), full=full)
    run_study(planned, jobs=jobs, resume=resume, overwrite=overwrite)
    typer.echo((planned.folder / "table.md").read_text(encoding="utf-8"))
    typer.echo(f"page: {planned.folder / 'index.html'}")
