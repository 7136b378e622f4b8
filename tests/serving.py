"""An exported folder of the embedded model, made without training, and a server of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from ragdro.config import load_config
from ragdro.runs.exported import write_exported_config
from ragdro.sources import resolve

ROOT = Path(__file__).parents[1]
QUESTIONS = (
    "What animal is on the painting of Risor?",
    "What animal is on the sculpture of the shop where Desus pays?",
    "Who buys from Kepin?",
)
PASSAGES = ["Risor shows a mule upon its painting", "Vufan sings at Sivel", "Kepin shows a lobster"]


def exported_folder(folder: Path, *overrides: str) -> Path:
    """`folder` as `ragdro export` leaves it: both roles are the embedded base as it is."""
    config = load_config(ROOT / "configs/tiny.yaml", [f"cache={folder.parent / 'cache'}", *overrides])
    write_exported_config(config, folder)
    for role in ("selector", "generator"):
        shutil.copytree(resolve("tiny:base"), folder / role)
    return folder


@contextmanager
def server(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """`ragdro serve` in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ragdro", "serve", str(folder), "--port", str(port), *options]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    process = subprocess.Popen(words, cwd=ROOT, env=settings, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "Traceback" not in log, log


def wait_until_ready(address: str, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(process.communicate()[1])
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not come up")
