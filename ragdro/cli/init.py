"""`ragdro init`: a first config for one's own data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from ragdro.cli.checks import require_sources, require_spared
from ragdro.cli.paths import path_argument
from ragdro.errors import ConfigError, RagdroError

_T = TypeVar("_T")
_FRACTION, _LEAST, _MOST = 0.1, 0.01, 0.9


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
            min=_LEAST, max=_MOST, help="instead: split the training questions, into two files beside FILE"
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
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace FILE and the two files of a split")
    ] = False,
) -> None:
    """Look at your data and write a config that runs, with a comment at every key.

    Asks for what is not given where it is started from a terminal.
    """
    if file.is_dir():
        raise ConfigError(f"{file}: is a folder; name a file in it, such as {file / 'config.yaml'}")
    if file.exists() and not overwrite:
        raise ConfigError(f"{file}: exists; name another file or pass --overwrite")
    if validation is not None and validation_fraction is not None:
        raise ConfigError("--validation and --validation-fraction: give one, a file or a part of --train")
    require_sources(train, validation, test, corpus=corpus)
    if model is not None:
        _require_model(model)
    train = train or _ask("train", "questions with answers to train on", require_sources)
    if validation is None and validation_fraction is None:
        validation, validation_fraction = _ask_validation()
    if corpus is None and not candidates:
        asked = "passages to retrieve from (empty: questions bring candidates)"
        corpus = _ask("corpus", asked, _require_corpus, empty=True)
    model = model or _ask("model", "causal LM: hub name, folder or tiny:base", _require_model)
    if sys.stderr.isatty():  # torch takes seconds to load
        typer.echo(f"ragdro: {file}: loading", err=True)
    from ragdro.planning.first import Answers, split_files, write_first_config

    written = [file, *(split_files(file) if validation is None else ())]
    for path in written:
        require_spared(path, train, validation, test, corpus, way="name another FILE.yaml")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path}: exists; name another FILE.yaml or pass --overwrite")
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


def _ask(option: str, what: str, check: Callable[[str], None], *, empty: bool = False) -> str | None:
    """The answer of somebody at a terminal; elsewhere `ConfigError`, or None where it may be empty."""
    if not _is_terminal():
        if empty:
            return None
        raise ConfigError(f"--{option}: not given: {what}")

    def read(answer: str) -> str | None:
        if answer:
            check(answer)
        return answer or None

    return _until_read(what, read, default="" if empty else None)


def _ask_validation() -> tuple[str | None, float | None]:
    """A file of other questions, or how much of the training file is split off. Raises `ConfigError` where
    nobody can be asked."""
    if not _is_terminal():
        raise ConfigError(
            "--validation: not given: other questions than those to train on; --validation-fraction 0.1"
            " splits them off the training file"
        )

    def read(answer: str) -> tuple[str | None, float | None]:
        fraction = _number(answer)
        if fraction is None:
            require_sources(answer)
            return answer, None
        if not _LEAST <= fraction <= _MOST:
            raise ConfigError(f"{answer}: a fraction is from {_LEAST} to {_MOST}")
        return None, fraction

    asked = f"others to validate with: a file, or a fraction of these [{_FRACTION}]"
    return _until_read(asked, read, default=str(_FRACTION))


def _until_read(what: str, read: Callable[[str], _T], default: str | None) -> _T:
    """What `read` makes of an answer; asks again, with the reason, while that raises a `RagdroError`."""
    from ragdro.report.plain import one_line

    while True:
        answer = str(typer.prompt(what, default=default, show_default=False)).strip()
        try:
            return read(answer)
        except RagdroError as error:
            typer.echo(one_line(str(error)), err=True)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _require_corpus(source: str) -> None:
    require_sources(corpus=source)


def _require_model(source: str) -> None:
    from ragdro.hub import find_checkpoint

    find_checkpoint(source)


def _is_terminal() -> bool:
    return sys.stdin.isatty()
