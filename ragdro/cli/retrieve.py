"""`ragdro index` (corpus → index folder) and `ragdro retrieve` (questions → candidates file)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ragdro.access import absent
from ragdro.cli.checks import require_spared
from ragdro.cli.fields import FieldsOption, field_names
from ragdro.cli.paths import path_option
from ragdro.config import Config
from ragdro.config.retriever import DEFAULT_KIND, DEFAULT_TOP_N, RetrieverSettings, parse_settings
from ragdro.config.yaml import parse_yaml, read_yaml
from ragdro.errors import ConfigError
from ragdro.sources import resolve
from ragdro.types import Candidates
from ragdro.units import counted

_Kind = Annotated[
    str,
    typer.Option(help="bm25, dense, colbert, hybrid, postgres, qdrant, external, given, module:Class"),
]
_SettingsFile = Annotated[Path | None, path_option(help="YAML file with the retriever's settings")]
_Set = Annotated[list[str] | None, typer.Option("--set", help="one setting, dotted.key=value; repeatable")]
_Cache = Annotated[Path, path_option(help="folder of indexes and candidates, shared with `ragdro train`")]
_CACHE = Path(Config.model_fields["cache"].default)


def index(
    corpus: Annotated[str, typer.Option(help="corpus: a file, a folder, or hf:org/name[:split]")],
    out: Annotated[Path | None, path_option(help="folder of the index; without it, in the cache")] = None,
    kind: _Kind = DEFAULT_KIND,
    settings: _SettingsFile = None,
    set_: _Set = None,
    cache: _Cache = _CACHE,
    fields: FieldsOption = "",
) -> None:
    """Index a corpus for `ragdro retrieve`, or fill a database from it; a killed build resumes."""
    from ragdro.data import read_corpus
    from ragdro.retrieval import make_retriever
    from ragdro.retrieval.cache import cached_retriever, corpus_key, fill_store
    from ragdro.retrieval.database import DatabaseRetriever

    names = field_names(fields)
    chosen, source = retriever_settings(kind, settings, set_ or ()), resolve(corpus)
    made = make_retriever(chosen, show_progress=True)
    if isinstance(made, DatabaseRetriever):
        if out is not None:
            raise ConfigError(f"--out: a retriever of kind {made.kind} has its index where its passages are")
        passages = fill_store(source, made, cache, fields=names)
        typer.echo(f"{made.place}: {counted(passages, 'passages')}", err=True)
        return
    if not made.needs_corpus(()):
        raise ConfigError(f"a retriever of kind {chosen.kind} with these settings has no index")
    if out is None:
        retriever = cached_retriever(source, chosen, cache, show_progress=True, fields=names)
    else:
        retriever = made
        key = corpus_key(source, read_corpus, names)
        retriever.build(read_corpus(source, fields=names), out, corpus_key=key)
        retriever.open(out)
    typer.echo(f"{out or cache}: {counted(len(retriever.store), 'passages')}, {retriever.kind}", err=True)


def retrieve(
    questions: Annotated[str, typer.Option(help="questions: a file, a folder, or hf:org/name[:split]")],
    out: Annotated[Path, path_option(help="candidates file to write (JSONL)")],
    index: Annotated[Path | None, path_option(help="folder that `ragdro index --out` wrote")] = None,
    corpus: Annotated[
        str | None, typer.Option(help="instead of --index: the corpus, through the cache")
    ] = None,
    kind: _Kind = DEFAULT_KIND,
    settings: _SettingsFile = None,
    set_: _Set = None,
    cache: _Cache = _CACHE,
    top_n: Annotated[int, typer.Option(help="passages per question")] = DEFAULT_TOP_N,
    fields: FieldsOption = "",
) -> None:
    """Write each question's top-N passages and print their recall; the file is whole or not there.

    With --index, kind and settings are the index's. Otherwise the search goes through the cache.
    """
    from ragdro.data import read_questions
    from ragdro.evaluation.retrieved import RetrievalRecall
    from ragdro.retrieval import open_retriever
    from ragdro.retrieval.cache import cached_candidates
    from ragdro.retrieval.candidates import write_candidates

    require_spared(out, questions, corpus, settings)
    names, recall = field_names(fields), RetrievalRecall()
    asked = list(read_questions(resolve(questions), fields=names))
    if index is not None:
        if corpus is not None or settings is not None or set_:
            raise ConfigError(
                "--index brings its corpus and settings: leave out --corpus, --settings and --set"
            )
        candidates: Iterable[Candidates] = open_retriever(index, show_progress=True).search(asked, top_n)
    else:
        chosen, source = (
            retriever_settings(kind, settings, set_ or ()),
            None if corpus is None else resolve(corpus),
        )
        require_spared(out, getattr(getattr(chosen, "source", None), "path", None))
        candidates = cached_candidates(asked, source, chosen, top_n, cache, show_progress=True, fields=names)
    count = write_candidates(out, recall.watch(asked, candidates))
    typer.echo(f"{out}: {counted(count)}", err=True)
    for line in recall.as_lines():
        typer.echo(line)


def passages(
    out: Annotated[Path, path_option(help="corpus file to write (JSONL)")],
    kind: _Kind = "postgres",
    settings: _SettingsFile = None,
    set_: _Set = None,
) -> None:
    """Write the passages that a database keeps (postgres, qdrant) as a corpus file."""
    from ragdro.retrieval import make_retriever
    from ragdro.retrieval.candidates import write_passages
    from ragdro.retrieval.database import DatabaseRetriever

    require_spared(out, settings)
    retriever = make_retriever(retriever_settings(kind, settings, set_ or ()))
    if not isinstance(retriever, DatabaseRetriever):
        raise ConfigError(f"--kind {retriever.kind}: keeps no passages in a database; postgres and qdrant do")
    retriever.check()
    typer.echo(f"{out}: {counted(write_passages(out, retriever.passages()), 'passages')}", err=True)


def retriever_settings(kind: str, file: Path | None, assignments: Sequence[str]) -> RetrieverSettings:
    """The settings of a YAML file, or of the kind alone, with single ones replaced."""
    values: dict[str, Any] = {"kind": kind}
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"{file}: {absent(file)}")
        loaded = read_yaml(file)
        if not isinstance(loaded, dict):
            raise ConfigError(f"{file}: not a mapping of settings")
        values = {"kind": kind, **loaded}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment}: not of the form key=value")
        _assign(values, key, parse_yaml(value, f"--set {key}"))
    return parse_settings(values)


def _assign(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {dotted}: {section} is not a section")
        values = inner
    values[last] = value
