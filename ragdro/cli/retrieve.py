"""`ragdro index` (corpus → index folder) and `ragdro retrieve` (questions → candidates file)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ragdro.errors import ConfigError
from ragdro.retrieval.settings import DEFAULT_KIND, DEFAULT_TOP_N, RetrieverSettings, parse_settings


def index(
    corpus: Annotated[str, typer.Option(help="corpus: a file, a folder, or hf:org/name[:split]")],
    out: Annotated[Path, typer.Option(help="folder of the index; an unfinished one is continued")],
    kind: Annotated[str, typer.Option(help="bm25, dense, colbert, hybrid or external")] = DEFAULT_KIND,
    settings: Annotated[Path | None, typer.Option(help="YAML file with the retriever's settings")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="one setting, dotted.key=value; repeatable")
    ] = None,
) -> None:
    """Index a corpus for `ragdro retrieve`; a killed build goes on where it stopped."""
    from ragdro.data import read_corpus
    from ragdro.retrieval import make_retriever
    from ragdro.retrieval.cache import corpus_hash

    retriever = make_retriever(_settings(kind, settings, set_ or ()), show_progress=True)
    retriever.build(read_corpus(corpus), out, corpus_key=corpus_hash(corpus, read_corpus))
    retriever.open(out)
    typer.echo(f"{out}: {len(retriever.store)} passages, {retriever.kind}", err=True)


def retrieve(
    questions: Annotated[str, typer.Option(help="questions: a file, a folder, or hf:org/name[:split]")],
    index: Annotated[Path, typer.Option(help="folder that `ragdro index` wrote")],
    out: Annotated[Path, typer.Option(help="candidates file to write (JSONL)")],
    top_n: Annotated[int, typer.Option(help="passages per question")] = DEFAULT_TOP_N,
) -> None:
    """Write each question's top-N passages; the file is whole or not there."""
    from ragdro.data import read_questions
    from ragdro.retrieval import open_retriever
    from ragdro.retrieval.candidates import write_candidates

    retriever = open_retriever(index, show_progress=True)
    count = write_candidates(out, retriever.search(list(read_questions(questions)), top_n))
    typer.echo(f"{out}: {count} questions, {top_n} passages each", err=True)


def _settings(kind: str, file: Path | None, assignments: Sequence[str]) -> RetrieverSettings:
    """The settings of a YAML file, or of the kind alone, with single ones replaced; ConfigError names a bad one."""
    values: dict[str, Any] = {"kind": kind}
    if file is not None:
        loaded = _yaml(file.read_text(encoding="utf-8") if file.is_file() else None, str(file))
        if not isinstance(loaded, dict):
            raise ConfigError(f"{file}: not a mapping of settings")
        values = {"kind": kind, **loaded}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: not of the form key=value")
        _assign(values, key, _yaml(value, f"--set {assignment}"))
    return parse_settings(values)


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {dotted}: {section} is not a section")
        values = inner
    values[last] = value


def _yaml(text: str | None, source: str) -> Any:
    import yaml

    if text is None:
        raise ConfigError(f"{source}: no such file")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML ({' '.join(str(error).split())})") from error
