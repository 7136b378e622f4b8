"""`--fields`: what data files call our fields."""

from __future__ import annotations

import csv
from typing import Annotated, TypeAlias

import typer

from ragdro.errors import ConfigError

FieldsOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--fields", help="what the files call our fields: question=q,answers=a or text=body,passage_id=n"
    ),
]


def field_names(text: str) -> dict[str, str]:
    """`question=q,answers=a` as a mapping; a pair whose name has a comma is quoted as in CSV
    (`"question=a,b",answers=z`). ConfigError for what is not of this form."""
    names = {}
    for pair in filter(None, next(csv.reader([text]), [])):
        ours, equals, theirs = pair.partition("=")
        if not (ours.strip() and equals and theirs.strip()):
            raise ConfigError(f"--fields {pair}: not of the form ours=theirs, such as question=q")
        names[ours.strip()] = theirs.strip()
    return names
