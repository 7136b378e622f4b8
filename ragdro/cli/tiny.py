"""`ragdro tiny`: the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragdro.cli.paths import path_option

tiny_app = typer.Typer(
    no_args_is_help=True, help="The embedded default: a generated world and a small base model."
)


@tiny_app.command()
def build(
    out: Annotated[Path, path_option(help="folder that gets world/, far/ and base/")] = Path("runs/tiny"),
    seed: Annotated[int, typer.Option(min=0, help="seed of the worlds and of the base model")] = 0,
    world_only: Annotated[
        bool, typer.Option(help="leave the base model alone (the worlds take a second)")
    ] = False,
) -> None:
    """Make the worlds and the base checkpoint anew from a seed (a quarter of an hour on two cores)."""
    from ragdro.tiny.far import write_far
    from ragdro.tiny.world import write_world

    for name, write in {"world": write_world, "far": write_far}.items():
        write(out / name, seed)
        typer.echo(f"wrote {out / name}")
    if not world_only:
        from ragdro.tiny.base import build_base

        build_base(out / "base", seed)
        typer.echo(f"wrote {out / 'base'}")
