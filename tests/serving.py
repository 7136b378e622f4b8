"""An exported folder of the embedded model, made without training, and a server of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from safetensors.torch import load_file, save_file

from ragdro.config import dump_config, load_config
from ragdro.runs.exported import write_exported_config
from ragdro.sources import resolve

ROOT = Path(__file__).parents[1]
QUESTIONS = (
    "What animal is on the painting of Risor?",
    "What animal is on the sculpture of the shop where Desus pays?",
    "Who buys from Kepin?",
)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"
PASSAGES = ["Risor shows a mule upon its painting", "Vufan sings at Sivel", "Kepin shows a lobster"]


def exported_folder(folder: Path, *overrides: str, model: Path | None = None) -> Path:
    """`folder` as `ragdro export` leaves it: both roles are the embedded base, or a plain `model`."""
    config = load_config(ROOT / "configs/tiny.yaml", [f"cache={folder.parent / 'cache'}", *overrides])
    write_exported_config(config, folder)
    for role in ("selector", "generator"):
        if model is None:
            shutil.copytree(resolve("tiny:base"), folder / role)
        else:
            (folder / role).symlink_to(model.resolve())
    return folder


def run_folder(folder: Path) -> Path:
    """`folder` as a run of the embedded model leaves it, made without training.

    The warm-up's pair is the base as it is; the best generator's weights are scaled, so that the two answer
    the second question differently. In the examples, questions, titles, texts and answers hold markup.
    """
    config = load_config(
        ROOT / "configs/tiny.yaml",
        [f"cache={folder.parent / 'cache'}", f"runs={folder.parent}", f"name={folder.name}"],
    )
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_config(config))
    for pair in (folder / "checkpoints/iteration-0", folder / "best"):
        for role in ("selector", "generator"):
            shutil.copytree(resolve("tiny:base"), pair / role)
    for path in (folder / "best/generator").glob("*.safetensors"):
        weights = load_file(path)
        save_file({key: 1.2 * value for key, value in weights.items()}, path, {"format": "pt"})
    metrics = {"questions": 3}
    best = {"iteration": 1, **metrics}
    results = {"vanilla_rag": metrics, "warm_up": metrics, "iterations": [best], "best": best}
    (folder / "results.json").write_text(json.dumps(results))
    for stage, right in (("warm_up", (0, 0, 1)), ("iteration-1", (1, 1, 1))):
        records = [_prediction(stage, QUESTIONS[i], i, bool(r)) for i, r in enumerate(right)]
        lines = [json.dumps(record) + "\n" for record in records]
        (folder / f"predictions-{stage}.jsonl").write_text("".join(lines))
    return folder


def _prediction(stage: str, question: str, at: int, right: bool) -> dict[str, Any]:
    read = {"id": "p", "title": f"{HOSTILE} title", "text": f"{HOSTILE} mule", "probability": 0.5}
    asked = f"{question} {HOSTILE}" if at == 1 else question
    return {
        "id": f"q{at}",
        "question": asked,
        "answers": ["mule", HOSTILE],
        "answer": f"{HOSTILE} {stage}",
        "exact_match": float(right),
        "selection": [{**read, "rank_in_candidates": 2}],
    }


class Server:
    """`ragdro serve` in a process of its own, at `address`; `program` is what Python runs for `ragdro`."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "ragdro"),
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        words = [sys.executable, *program, "serve", str(folder), "--port", str(port), *options]
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        # No pipe: one that nobody reads fills up, and the server waits.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(words, cwd=ROOT, env=settings, stderr=self._log)

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said so far."""
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> None:
        """SIGTERM, after which the server has to leave by itself, with code 0."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=300)
            assert self._process.returncode == 0 and "Traceback" not in self.log, self.log

    def wait(self) -> None:
        """Until it takes questions."""
        for _ in range(900):
            assert self._process.poll() is None, self.log
            try:
                if httpx.get(f"{self.address}/readyz").status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            time.sleep(0.1)
        raise AssertionError("the server did not come up")
