"""Arguments and options that are paths: whether they can be read is said in one line where they are read."""

from __future__ import annotations

from functools import partial

import typer

path_argument = partial(typer.Argument, readable=False)
path_option = partial(typer.Option, readable=False)
