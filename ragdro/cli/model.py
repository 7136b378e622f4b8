"""`ragdro model`: pretrained weights into a folder that every command reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from ragdro.cli.paths import path_argument

model_app = typer.Typer(no_args_is_help=True, help="Pretrained models.")


@model_app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="FILE.gguf, a checkpoint folder, or a hub name")
    ],
    out: Annotated[Path, path_argument(metavar="OUT", help="a new folder to write it to")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="of the weights written; training takes them as float32"),
    ] = "float32",
    revision: Annotated[Optional[str], typer.Option(help="hub revision")] = None,  # noqa: UP045
) -> None:
    """Write a model as a plain Hugging Face folder: safetensors, tokenizer, chat template.

    A quantised GGUF file is unpacked to full weights, which can be trained. The folder's name is what
    `selector.model` and `generator.model` of a config take.
    """
    from ragdro.lm.importing import import_model

    made = import_model(source, out, dtype=dtype, revision=revision)
    typer.echo(f"{made.folder}: {made.weights / 1e6:.1f} M weights in {made.dtype}")
    if not made.has_chat_template:
        typer.echo("it ships no chat template: prompts will be plain text")
