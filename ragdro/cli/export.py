"""`ragdro merge` and `ragdro export`: a run's models as plain folders for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ragdro.cli.checks import require_stage
from ragdro.cli.models import RunPath, Stage
from ragdro.cli.paths import path_argument


def merge(run: RunPath, stage: Stage = "best") -> None:
    """Write both models with plain weights into RUN/merged (adapters are merged into their base)."""
    require_stage(run, stage)
    from ragdro.report.export import export_run

    _say(export_run(run, run / "merged", stage, overwrite=True))


def export(
    run: RunPath,
    folder: Annotated[Path, path_argument(metavar="FOLDER", help="a new folder to write them to")],
    stage: Stage = "best",
    index: Annotated[
        bool, typer.Option("--index", help="bring the corpus and its index along, to ask without the run")
    ] = False,
    push: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ORG/NAME", help="upload them too, as ORG/NAME-selector and ORG/NAME-generator"),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="new repositories on the hub are public")] = False,
) -> None:
    """Write both models with plain weights, tokenizer and model card into FOLDER; push them to a hub."""
    require_stage(run, stage)
    from ragdro.report.export import export_run, push_to_hub, repositories

    names = None if push is None else repositories(push)
    folders = export_run(run, folder, stage, index=index)
    _say(folders)
    if names is not None:
        for address in push_to_hub(folders, names, private=not public):
            typer.echo(address)


def _say(folders: dict[str, Path]) -> None:
    for role, folder in folders.items():
        typer.echo(f"{role}: {folder}")
