"""`ragdro runs` and `ragdro watch`: what the runs on this disk are doing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ragdro.access import absent
from ragdro.cli.checks import require_own_run
from ragdro.cli.models import RunPath
from ragdro.cli.paths import path_argument
from ragdro.config import Config
from ragdro.errors import ConfigError

_RUNS = Path(Config.model_fields["runs"].default)


def runs(
    folder: Annotated[
        Path, path_argument(metavar="[FOLDER]", help="the folder that holds run folders")
    ] = _RUNS,
    json_: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List runs: running, finished or interrupted, and the best score of each."""
    from ragdro.report.watch import list_runs, print_runs

    if not folder.is_dir() and folder != _RUNS:
        raise ConfigError(f"{folder}: {absent(folder, 'folder')}")
    rows = list_runs(folder)
    if json_:
        typer.echo(json.dumps(rows, ensure_ascii=False))
    elif rows:
        print_runs(rows)
    else:
        typer.echo(f"{folder}: no run is in it; begin one: ragdro train CONFIG.yaml")


def watch(
    run: RunPath,
    once: Annotated[bool, typer.Option("--once", help="print one picture and leave")] = False,
) -> None:
    """Follow a run: curves, effective sample size, last examples, time left. Ctrl-C leaves it alone."""
    require_own_run(run)
    from ragdro.report.watch import watch_run

    watch_run(run, once=once)
