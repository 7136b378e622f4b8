"""Commands in processes of their own that can be killed, forked from a server that has torch loaded."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import yaml

import ragdro
from ragdro.config import Config
from ragdro.runs.state import StateStore
from tests.pipeline.test_train import write_config

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["ragdro.runs.run", "ragdro.report.figures", "transformers.models.llama.modeling_llama", __name__]
)
KILLED = 137


class Command:
    """`ragdro ARGUMENTS`, started; what it says goes to `said`. `prepare` runs in its process first."""

    def __init__(
        self, folder: Path, *arguments: str, prepare: Callable[..., None] | None = None, given: Any = None
    ) -> None:
        self._log = folder / "said.txt"
        self.process: ForkServerProcess = SERVER.Process(
            target=_main, args=(arguments, str(self._log), prepare, given)
        )
        self.process.start()

    def wait(self, seconds: float = 300) -> int:
        """The exit code; a killed process has a negative one."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "hangs"
        return self.process.exitcode

    @property
    def said(self) -> str:
        return self._log.read_text()


def _main(arguments: tuple[str, ...], log: str, prepare: Callable[..., None] | None, given: Any) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.argv = ["ragdro", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore Ctrl-C
    if prepare is not None:
        prepare(given)
    from ragdro.cli import main

    main()


class Processes:
    """`ragdro ARGUMENTS` in two processes that find one another as `torchrun`'s do.

    `prepare` runs in the second one first, or in another one that is to be `prepared`.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        prepare: Callable[..., None] | None = None,
        given: Any = None,
        prepared: int = 1,
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.commands = []
        for rank in range(2):
            place = folder / f"process-{rank}"
            place.mkdir(exist_ok=True)
            launch = (rank, port, prepare if rank == prepared else None, given)
            self.commands.append(Command(place, *arguments, prepare=_as_launched, given=launch))

    def wait(self, seconds: float = 120) -> list[int]:
        """Both exit codes."""
        return [one.wait(seconds) for one in self.commands]

    @property
    def said(self) -> list[str]:
        return [one.said for one in self.commands]


def _as_launched(launch: tuple[int, int, Callable[..., None] | None, Any]) -> None:
    rank, port, prepare, given = launch
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if prepare is not None:
        prepare(given)


def die_at_sync(number: int) -> None:
    """The process ends, as by kill -9, at its `number`-th fsync: no `finally`, no buffer is written."""
    done, sync = [0], os.fsync

    def fsync(descriptor: int) -> None:
        done[0] += 1
        if done[0] == number:
            os._exit(KILLED)
        sync(descriptor)

    os.fsync = fsync


class Killed(BaseException):
    """Nothing catches it: the run ends where it is raised, and nothing more is written."""


def killed_and_resumed(config: Config, commit: int, patch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The `outcome` of a run that ends in this process behind its commit number `commit`, and is resumed."""
    done, original = [0], StateStore.commit

    def committed(store: StateStore, state: Any) -> None:
        original(store, state)
        done[0] += 1
        if done[0] == commit:
            store.settle()
            raise Killed

    with patch.context() as killing:
        killing.setattr(StateStore, "commit", committed)
        with pytest.raises(Killed):
            ragdro.run(config)
    ragdro.run(config, resume=True)
    return outcome(Path(config.runs) / config.name)


def small_run(folder: Path, **changes: object) -> Path:
    """A config whose run has many units: every update and every two questions are saved."""
    path = write_config(folder, "llama", **{"threads": 1, "iterations": 2, "patience": None, **changes})
    config = yaml.safe_load(path.read_text())
    config["e_step"]["questions_per_shard"] = 2
    config["checkpoints"] = {"every": 1}
    for fits in (config["warm_up"], config["m_step"]):
        for role in ("selector", "generator"):
            fits[role] = {**fits[role], "epochs": 1.5}
    path.write_text(yaml.safe_dump(config))
    return path


def outcome(run: Path) -> dict[str, bytes]:
    """Everything that two equal runs have in common: metrics, weights, predictions, the log but for times."""
    files = [
        run / "results.json",
        *run.glob("predictions-*.jsonl"),
        *run.glob("checkpoints/*/*/*.safetensors"),
    ]
    contents = {str(p.relative_to(run)): p.read_bytes() for p in files}
    log = (run / "metrics.jsonl").read_bytes()
    contents["metrics.jsonl"] = re.sub(rb', "seconds": [0-9.]+', b"", log)
    contents["best"] = str((run / "best").readlink()).encode()
    return contents
