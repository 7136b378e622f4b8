"""`ragdro plan`: what an iteration will need, before anything is loaded."""

from __future__ import annotations

import json
from typing import Annotated, Optional

import typer

from ragdro.cli.models import ConfigFile, Overrides


def plan(
    config: ConfigFile,
    overrides: Overrides = None,
    questions: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="questions of an iteration; default: what the config says, or its data"),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="processes (torchrun), a device each")] = 1,
    passages: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="passages of the corpus, where counting them would take long"),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="print bytes, tokens and FLOPs as JSON")] = False,
) -> None:
    """Say what each phase of an iteration, and the index, will take: memory, disk, FLOPs. Loads no weights.

    From the models' configs alone, with every text as long as the config allows. device=cuda plans for a GPU
    from a machine without one.
    """
    from ragdro.cli.place import settings_of

    settings = settings_of(config, overrides or (), resume=True)
    from ragdro.report.plan import plan_config, print_plan

    found = plan_config(settings, questions, processes, passages)
    if json_:
        typer.echo(json.dumps(found))
    else:
        print_plan(found)
