"""`ragdro serve`: load, open the index, listen; on SIGTERM finish what is under way and leave."""

from __future__ import annotations

import errno
import logging
import math
import os
import signal
import socket
from pathlib import Path

import uvicorn

from ragdro.config.answering import Answering
from ragdro.errors import ConfigError
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
    passage_attention: str | None = None,
    passage_memory: float | None = None,
) -> None:
    """Serve the system of a run or an exported folder until SIGINT or SIGTERM.

    `compare`: vanilla RAG, the warm-up and the best iteration, too. `passage_attention`, `passage_memory`: as
    of `load`. Raises a `RagdroError` for what cannot be loaded or searched, before anything listens, and for
    an address that cannot be had, before anything is loaded.
    """
    address = bind(settings.host, settings.port)
    _log_to_standard_error()
    rag, served = open_stages(
        folder,
        stage=stage,
        corpus=corpus,
        compare=compare,
        passage_attention=passage_attention,
        passage_memory=passage_memory,
    )
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
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    port = address.getsockname()[1]
    log.info("pid %d serves %s at http://%s:%d", os.getpid(), settings.name, host, port)
    uvicorn.Server(config).run(sockets=[address])


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket at this address that does not listen yet: until it does, connections are refused.

    Raises `ConfigError` where the address cannot be had.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. An answer goes out in two parts, and the second would wait until the client
    # has confirmed the first: 40 ms on a connection that is kept.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"--port {port}: another server listens there; give another port, as in --port {port + 1}"
            ) from error
        raise ConfigError(f"--host {host} --port {port}: {error.strerror or error}") from error
    return listener


def _log_to_standard_error() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    ours = logging.getLogger("ragdro")
    for notes in list(ours.handlers):  # of the command line, which have no time
        ours.removeHandler(notes)
    ours.addHandler(handler)
    logging.getLogger("ragdro.serve").setLevel(logging.INFO)
