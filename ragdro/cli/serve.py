"""`ragdro serve`: a trained system over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from ragdro.cli.answering import (
    AnsweringOption,
    PassageAttentionOption,
    PassageMemoryOption,
    SamplesOption,
    ThoughtsOption,
    ThresholdOption,
    answering_of,
)
from ragdro.cli.ask import Corpus
from ragdro.cli.checks import require_sources, require_stage
from ragdro.cli.models import RunPath, Stage
from ragdro.errors import ConfigError
from ragdro.serve.settings import KEY_VARIABLE, LOOPBACK, ServeSettings, refuse_workers, require_key


def serve(
    run: RunPath,
    corpus: Corpus = None,
    stage: Stage = "best",
    compare: Annotated[
        bool,
        typer.Option("--compare", help="load vanilla RAG and the warm-up, too, to put side by side"),
    ] = False,
    host: Annotated[
        str, typer.Option(help="address to listen at; another than this machine's needs a key")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535)] = ServeSettings.port,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="the model id that clients see; default: the folder's name"),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="let anybody who can reach it ask")] = False,
    cors: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="an origin whose pages may ask, such as https://example.org; repeatable"),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="requests that may wait; more get 429")
    ] = ServeSettings.queue,
    batch: Annotated[int, typer.Option(min=1, help="requests worked on together")] = ServeSettings.batch,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds until an answer")] = ServeSettings.timeout,
    max_body: Annotated[int, typer.Option(min=1, help="bytes of a request")] = ServeSettings.max_body,
    max_documents: Annotated[
        int, typer.Option(min=1, help="documents of a request")
    ] = ServeSettings.max_documents,
    samples: Annotated[
        int, typer.Option(min=2, help="lists drawn for a relevance score that cannot be computed exactly")
    ] = ServeSettings.samples,
    answering: AnsweringOption = None,
    answer_samples: SamplesOption = None,
    thoughts: ThoughtsOption = None,
    threshold: ThresholdOption = None,
    passage_attention: PassageAttentionOption = None,
    passage_memory: PassageMemoryOption = None,
    workers: Annotated[int, typer.Option(hidden=True)] = 1,
) -> None:
    """Serve a run or an exported folder: a page to ask it on, /v1/rerank, /v1/chat/completions and more."""
    refuse_workers(workers)
    key = require_key(host, os.environ.get(KEY_VARIABLE), no_auth=no_auth)
    require_stage(run, stage)
    require_sources(corpus=corpus)
    from ragdro.runs.stages import config_of, reading_in
    from ragdro.runs.status import is_exported

    if compare and is_exported(run):
        raise ConfigError(
            f"--compare: {run} is an exported folder, of one pair alone; serve its run, or leave it out"
        )
    try:
        from ragdro.serve.run import serve as start
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette", "uvicorn", "prometheus_client"):
            raise
        raise ConfigError(f"serving needs {error.name}: pip install 'ragdro[serve]'") from error
    settings = ServeSettings(
        name=name or Path(run).resolve().name,
        host=host,
        port=port,
        api_key=key,
        cors=tuple(cors or ()),
        max_body=max_body,
        max_documents=max_documents,
        queue=queue,
        batch=batch,
        timeout=timeout,
        samples=samples,
    )
    config = reading_in(config_of(run), passage_attention, passage_memory)
    how = answering_of(config.answering, answering, answer_samples, thoughts, threshold)
    start(
        Path(run),
        settings,
        stage=stage,
        corpus=corpus,
        compare=compare,
        answering=how,
        passage_attention=passage_attention,
        passage_memory=passage_memory,
    )
