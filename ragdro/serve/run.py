"""`ragdro serve`: load, open the index, listen; on SIGTERM finish what is under way and leave."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import uvicorn

from ragdro.runs.load import load, over_corpus, retriever_of
from ragdro.runs.stages import config_of
from ragdro.serve.app import create_app
from ragdro.serve.settings import ServeSettings
from ragdro.system import Rag

_DRAIN_SECONDS = 30


def serve(folder: Path, settings: ServeSettings, *, stage: str = "best", corpus: str | None = None) -> None:
    """Serve the system of a run or an exported folder until SIGINT or SIGTERM.

    Raises a `RagdroError` for what cannot be loaded or searched, before anything listens.
    """
    _log_to_standard_error()
    rag = open_system(folder, stage=stage, corpus=corpus)
    app = create_app(rag, settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    # uvicorn drains on SIGTERM and then sends it again to whoever handled it before: that is a clean end.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    logging.getLogger("ragdro.serve").info(
        "pid %d serves %s at http://%s:%d", os.getpid(), settings.name, settings.host, settings.port
    )
    uvicorn.Server(config).run()


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger("ragdro").addHandler(handler)
    logging.getLogger("ragdro.serve").setLevel(logging.INFO)


def open_system(folder: Path, *, stage: str = "best", corpus: str | None = None) -> Rag:
    """The system, its index open where it has one: what cannot be opened is said now, not at a request."""
    config = config_of(folder) if corpus is None else over_corpus(config_of(folder), corpus)
    retriever = None if config.retriever.kind == "given" else retriever_of(config)
    return load(folder, stage=stage, retriever=retriever)
