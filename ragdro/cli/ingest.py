"""`ragdro ingest`: a folder of documents → a corpus."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragdro.cli.paths import path_argument, path_option
from ragdro.errors import ConfigError
from ragdro.units import counted

if TYPE_CHECKING:
    from ragdro.ingest import Ingested

_SHOWN = 6


def ingest(
    paths: Annotated[list[Path], path_argument(metavar="PATH...", help="folders and files")],
    out: Annotated[Path, path_option(help="corpus to write (JSONL); .gz and .zst are compressed")],
    tokens: Annotated[int, typer.Option(min=1, help="the most tokens in a passage")] = 100,
    overlap: Annotated[int, typer.Option(min=0, help="tokens that a passage repeats of the one before")] = 0,
    tokenizer: Annotated[
        str | None, typer.Option(help="whose tokens are counted: folder or hub name; by default words")
    ] = None,
    text_field: Annotated[
        list[str] | None, typer.Option(help="tables: column of the text; repeatable, joined in order")
    ] = None,
    title_field: Annotated[str | None, typer.Option(help="tables: column of the title")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="of text files that are not UTF-8; by default guessed")
    ] = None,
    skip_bad: Annotated[
        int | None, typer.Option(min=0, help="bad files to pass over before giving up; by default any number")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="give up at the first bad file")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; by default one a core")] = None,
) -> None:
    """Cut documents into a corpus of passages; a killed run continues, a second one reads what is new."""
    from ragdro.ingest import IngestSettings
    from ragdro.ingest import ingest as run

    if strict and skip_bad is not None:
        raise ConfigError("--strict and --skip-bad exclude each other: leave one out")
    settings = IngestSettings(
        tokens=tokens,
        overlap=overlap,
        tokenizer=tokenizer,
        text_fields=tuple(text_field or ()),
        title_field=title_field,
        encoding=encoding,
        skip_bad=0 if strict else skip_bad,
        jobs=jobs,
    )
    _report(run(paths, out, settings, show_progress=True))


def _report(done: Ingested) -> None:
    """What was written on standard output, everything else to know on standard error."""
    from ragdro.report.plain import one_line

    lines = [*done.left_aside, *_notes(done.notes)]
    lines += [f"passed over: {name}: {reason}" for name, reason in done.bad[:_SHOWN]]
    if len(done.bad) > _SHOWN:
        lines.append(f"passed over: {len(done.bad) - _SHOWN} more, all in {done.problems_file}")
    if done.bad:
        lines.append(f"warning: bad files: {len(done.bad)}; --strict refuses them")
    for line in lines:
        typer.echo(one_line(line), err=True)
    reused = f" ({done.reused:,} unchanged)" if done.reused else ""
    passages, files = counted(done.passages, "passages"), counted(done.files, "files")
    typer.echo(f"{done.out}: {passages} from {files}{reused}")
    typer.echo(f"look at it with: ragdro data inspect {shlex.quote(str(done.out))}", err=True)


def _notes(notes: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each kind of note, with how often and an example."""
    counts = Counter(note for _, note in notes)
    examples = {note: name for name, note in reversed(notes)}
    lines = [
        f"note: {examples[note]}: {note}" + (f" (and {count - 1} more)" if count > 1 else "")
        for note, count in counts.most_common(_SHOWN)
    ]
    left = len(counts) - len(lines)
    return [*lines, f"note: other kinds of note: {left}"] if left > 0 else lines
