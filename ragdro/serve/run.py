"""`ragdro serve`: load, open the index, listen; on SIGTERM finish what is under way and leave."""

from __future__ import annotations

import logging
import math
import os
import signal
from pathlib import Path

import uvicorn

from ragdro.config.answering import Answering
from ragdro.serve.app import create_app
from ragdro.serve.settings import ServeSettings
from ragdro.serve.stages import loaded, open_stages

_DRAIN_SECONDS = 5
"""For the last answers to be sent: whatever was accepted has its answer, or is late, within the time-out."""


def serve(
    folder: Path,
    settings: ServeSettings,
    *,
    stage: str = "best",
    corpus: str | None = None,
    compare: bool = False,
    answering: Answering | None = None,
) -> None:
    """Serve the system of a run or an exported folder until SIGINT or SIGTERM.

    `compare`: vanilla RAG, the warm-up and the best iteration, too. Raises a `RagdroError` for what cannot be
    loaded or searched, before anything listens.
    """
    _log_to_standard_error()
    rag, served = open_stages(folder, stage=stage, corpus=corpus, compare=compare)
    if answering is not None:
        for one in (rag, *served.others.values()):
            one.answering = answering
    app = create_app(rag, settings, served)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.timeout) + _DRAIN_SECONDS,
    )
    # uvicorn drains on SIGTERM and then sends it again to whoever handled it before: that is a clean end.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    log = logging.getLogger("ragdro.serve")
    log.info("loaded %s", loaded(rag, served))
    log.info("pid %d serves %s at http://%s:%d", os.getpid(), settings.name, settings.host, settings.port)
    uvicorn.Server(config).run()


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.getLogger("ragdro").addHandler(handler)
    logging.getLogger("ragdro.serve").setLevel(logging.INFO)
