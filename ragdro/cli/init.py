"""`ragdro init`: a first config for one's own data."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ragdro.cli.checks import require_sources
from ragdro.cli.paths import path_argument
from ragdro.errors import ConfigError

_FRACTION = 0.1


def init(
    file: Annotated[Path, path_argument(metavar="[FILE.yaml]", help="the config to write")] = Path(
        "config.yaml"
    ),
    train: Annotated[str | None, typer.Option(help="questions with answers to train on")] = None,
    validation: Annotated[
        str | None, typer.Option(help="other questions, to choose the best iteration by")
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.9, help="instead: split the training questions, into two files beside FILE"
        ),
    ] = None,
    test: Annotated[str | None, typer.Option(help="further questions, measured and never used")] = None,
    corpus: Annotated[str | None, typer.Option(help="passages to retrieve from (see ragdro ingest)")] = None,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="select from what each question brings")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="hub name or folder of a causal LM; tiny:base needs no download")
    ] = None,
    selector: Annotated[
        Literal["list", "pointer"], typer.Option(help="a small model learns to point sooner than to write")
    ] = "list",
    memory: Annotated[float | None, typer.Option(min=0.1, help="GiB of a device; by default its own")] = None,
    device: Annotated[str, typer.Option(help="torch device")] = "auto",
    language: Annotated[
        str | None, typer.Option(help="of the corpus, for BM25; by default found out")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the run folder's name; by default FILE's")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace FILE")] = False,
) -> None:
    """Look at your data and write a config that runs, with a comment at every key.

    Asks for what is not given where it is started from a terminal.
    """
    if file.exists() and not overwrite:
        raise ConfigError(f"{file}: exists; name another file or pass --overwrite")
    train = train or _ask("train", "questions with answers to train on")
    if validation is None and validation_fraction is None:
        validation_fraction = _ask_fraction()
    if corpus is None and not candidates:
        corpus = _ask("corpus", "passages to retrieve from (empty: questions bring candidates)", empty=True)
    model = model or _ask("model", "causal LM: hub name, folder or tiny:base")
    from ragdro.hub import find_checkpoint

    require_sources(train, validation, test, corpus=corpus)
    if model is not None:
        find_checkpoint(model)
    from ragdro.planning.first import Answers, write_first_config

    answers = Answers(
        train=train,
        validation=validation,
        fraction=validation_fraction,
        test=test,
        corpus=corpus,
        given=candidates or corpus is None,
        model=model,
        device=device,
        memory=memory,
        language=language,
        name=name or file.stem,
        selector=selector,
    )
    for line in write_first_config(file, answers):
        typer.echo(line)
    typer.echo(f"next: ragdro train {shlex.quote(str(file))} --dry-run")


def _ask(option: str, what: str, *, empty: bool = False) -> str | None:
    """The answer of somebody at a terminal; elsewhere `ConfigError`, or None where it may be empty."""
    if not _is_terminal():
        if empty:
            return None
        raise ConfigError(f"--{option}: not given: {what}")
    return str(typer.prompt(what, default="" if empty else None, show_default=False)).strip() or None


def _ask_fraction() -> float:
    """How much of the training file is split off. Raises `ConfigError` where nobody can be asked."""
    if _is_terminal():
        return float(
            typer.prompt("fraction of the training questions to validate with", default=_FRACTION, type=float)
        )
    raise ConfigError(
        "--validation: not given: other questions than those to train on; --validation-fraction 0.1 splits"
        " them off the training file"
    )


def _is_terminal() -> bool:
    return sys.stdin.isatty()
