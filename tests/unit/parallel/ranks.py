"""Functions that are called on two ranks, each in a process of its own."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ragdro.config import Timeouts
from ragdro.parallel.world import joined
from tests.pipeline.crash import SERVER

Act: TypeAlias = Callable[[Path], dict[str, Any]]


def on_two_ranks(acts: dict[str, Act], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What each of the acts says of the folder of its name, in each of two processes over gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [SERVER.Process(target=_rank, args=(rank, port, acts, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0, 0]
    said = [json.loads((folder / f"said-{rank}.json").read_text()) for rank in range(2)]
    return {name: [one[name] for one in said] for name in acts}


def _rank(rank: int, port: int, acts: dict[str, Act], folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with joined("cpu", Timeouts()):
        said = {name: act(folder / name) for name, act in acts.items()}
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
