"""`ragdro tiny`: the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

tiny_app = typer.Typer(
    no_args_is_help=True, help="The embedded default: a generated world and a small base model."
)


@tiny_app.command()
def build(
    out: Annotated[Path, typer.Option(help="folder that gets world/ and base/")] = Path("runs/tiny"),
    seed: Annotated[int, typer.Option(help="seed of the worlds and of the base model")] = 0,
    world_only: Annotated[
        bool, typer.Option(help="leave the base model alone (the world takes a second)")
    ] = False,
) -> None:
    """Make the world and the base checkpoint anew from a seed (a quarter of an hour on two cores)."""
    from ragdro.tiny.world import write_world

    write_world(out / "world", seed)
    typer.echo(f"wrote {out / 'world'}")
    if not world_only:
        from ragdro.tiny.base import build_base

        build_base(out / "base", seed)
        typer.echo(f"wrote {out / 'base'}")
