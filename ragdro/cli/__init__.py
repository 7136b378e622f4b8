"""The command line. Importing it, and `--help`, load no torch: each command imports what it needs.

Errors a user can cause end in one line on standard error and exit code 2 (1 where a run could not continue),
Ctrl-C in 130, a run that SIGTERM stopped in 75.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from contextlib import nullcontext
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError
from typer.exceptions import TyperException

from ragdro.access import meant, refused
from ragdro.cli import (
    ask,
    chat,
    config,
    data,
    diagnose,
    export,
    ingest,
    init,
    model,
    models,
    plan,
    retrieve,
    retriever,
    serve,
    study,
    tiny,
    watch,
)
from ragdro.cli.resuming import resuming
from ragdro.config.words import complaint
from ragdro.environment import env_rank, env_world_size
from ragdro.errors import LostProcessError, OutOfMemoryError, RagdroError, RagdroWarning
from ragdro.runs.signals import PREEMPTED, Preemption

INTERRUPTED = 130


def _version(asked: bool) -> bool:
    if asked:
        typer.echo(f"ragdro {version('ragdro')}")
        raise typer.Exit
    return asked


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """Train the selector and the generator of a retrieval-augmented system together."""


_ARGUMENT = re.compile(r"\b(resume|overwrite)=True\b")
"""What a message of the library says to pass; here it is an option."""

app.command()(init.init)
app.command()(config.config)
app.command()(models.train)
app.command()(plan.plan)
app.command()(models.warmup)
app.command()(models.evaluate)
app.command()(diagnose.diagnose)
app.command()(ask.answer)
app.command()(chat.chat)
app.command()(serve.serve)
app.command()(models.report)
app.command()(export.merge)
app.command()(export.export)
app.command()(study.study)
app.command()(watch.runs)
app.command()(watch.watch)
app.command()(ingest.ingest)
app.command()(retrieve.index)
app.command()(retrieve.retrieve)
app.command()(data.score)
app.command()(data.compare)
data.data_app.command()(retrieve.passages)
app.add_typer(data.data_app, name="data")
app.add_typer(model.model_app, name="model")
app.add_typer(retriever.retriever_app, name="retriever")
app.add_typer(tiny.tiny_app, name="tiny")


def main() -> None:
    """Run the command line and exit."""
    warnings.formatwarning = _one_line
    logging.getLogger("ragdro").addHandler(_Notes(logging.WARNING))
    try:
        with Preemption() if resuming() else nullcontext():
            done = app(prog_name="ragdro", standalone_mode=False)
        sys.exit(done if isinstance(done, int) else 0)  # what `typer.Exit` says, or what a command returns
    except TyperException as error:
        sys.exit(_misused(error))
    except typer.Abort:
        sys.exit(_say("stopped, as the input ended", 1))
    except OutOfMemoryError as error:
        sys.exit(_say(f"{error}{resuming(error.overrides)}", error.exit_code))
    except LostProcessError as error:
        _say(str(error), error.exit_code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.exit_code)  # a thread that saves may wait for the other process still
    except RagdroError as error:
        sys.exit(_say(str(error), error.exit_code))
    except MemoryError as error:  # of the machine's own memory, outside of a pass: those name their setting
        said = f"out of memory ({str(error) or 'of this machine'}); smaller *.max_tokens_per_micro_batch,"
        sys.exit(_say(f"{said} e_step.samples or top_n need less{resuming()}", 1))
    except OSError as error:
        where = f"{meant(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        again = resuming().removeprefix("; ")
        said = refused(error, again=again) if again else refused(error)
        sys.exit(_say(f"{where}{said}", 2))
    except SystemExit as stop:  # typer turns Ctrl-C into a silent exit
        if stop.code == INTERRUPTED:
            _say(f"interrupted{resuming()}", INTERRUPTED)
        elif stop.code == PREEMPTED:
            sent = " (torchrun sends it to every process when one has ended)" if env_world_size() > 1 else ""
            _say(f"stopped by SIGTERM{sent}{resuming()}", PREEMPTED)
        raise
    except KeyboardInterrupt:
        sys.exit(_say(f"interrupted{resuming()}", INTERRUPTED))


class _Notes(logging.Handler):
    """What the library logs for users, where the terminal's own progress display can see it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"ragdro: note: {' '.join(record.getMessage().split())}", file=sys.stderr)


_with_place = warnings.formatwarning


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings are for users, who have no use for a place in the code."""
    if issubclass(category, RagdroWarning):
        return f"ragdro: note: {' '.join(str(message).split())}\n"
    return _with_place(message, category, filename, lineno, line)


def _misused(error: TyperException) -> int:
    """The exit code, behind one line that names the command whose help says what is right; without a line
    where the help itself was printed."""
    said = error.format_message().strip().rstrip(".")
    if isinstance(error.__cause__, ValidationError):
        key = said.partition("'")[2].partition("'")[0]
        said = f"{key}: {complaint(error.__cause__.errors(include_url=False)[0])}"
    context = getattr(error, "ctx", None)
    first = [word for word in sys.argv[1:2] if not word.startswith("-")]
    command = " ".join(["ragdro", *first]) if context is None else context.command_path
    return _say(f"{said[:1].lower()}{said[1:]}; see: {command} --help", 2) if said else error.exit_code


def _say(message: str, code: int) -> int:
    who = f" (process {env_rank()} of {env_world_size()})" if env_rank() else ""
    said = _ARGUMENT.sub(r"--\1", " ".join(message.split()))
    print(f"ragdro: error{who}: {said}", file=sys.stderr)
    return code
