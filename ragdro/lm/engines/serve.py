"""What `vllm serve` is started with: its options, its environment and its place.

In: settings of the engine and what this process was told by its environment. Out: a command's parts.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ragdro.config.engine import VllmServerEngine
from ragdro.lm.engines.gpus import VISIBLE

_CPU_BLOCK = "32"
"""The fewest tokens that a block of the prefix cache may have on a CPU; vLLM's default is 128. What of a
prompt fills no block is computed again for each choice."""
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "NCCL_ASYNC_")
"""Names, or how they begin, of what torchrun tells a run's processes, which the server is none of."""


@dataclass(frozen=True, slots=True)
class Served:
    """Where the server is, what the selector is called there and what its API is opened with."""

    host: str
    listens: str
    port: int
    model: str
    api_key: str

    @property
    def url(self) -> str:
        """Without the API's version."""
        return f"http://{self.host}:{self.port}"


def options(settings: VllmServerEngine, served: Served, dtype: str) -> list[str]:
    """Those behind the model and what goes with it; `dtype`: what matrices are multiplied in."""
    place = {"--served-model-name": served.model, "--host": served.listens, "--port": str(served.port)}
    logs = {"--logprobs-mode": "processed_logprobs", "--max-logprobs": "-1"}
    sizes = {"--dtype": dtype, "--max-model-len": "auto"}
    if settings.gpus:
        sizes |= {
            "--tensor-parallel-size": str(len(settings.gpus)),
            "--gpu-memory-utilization": str(settings.memory),
        }
    else:
        sizes["--block-size"] = _CPU_BLOCK
    pairs = [word for option in (place | logs | sizes).items() for word in option]
    return [*pairs, "--enable-prefix-caching", "--disable-uvicorn-access-log", *settings.arguments]


def server_environment(settings: VllmServerEngine, api_key: str) -> dict[str, str]:
    """The server's: ours, but for what says that it were one of the run's processes."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(_TORCHRUN)}
    folder = Path(shutil.which(settings.command) or "").parent.resolve()
    return {
        "VLLM_NO_USAGE_STATS": "1",
        **ours,
        "PATH": f"{folder}{os.pathsep}{ours.get('PATH', '')}",  # programs of its own environment
        VISIBLE: ",".join(map(str, settings.gpus)),
        "VLLM_API_KEY": api_key,
        "VLLM_SERVER_DEV_MODE": "1",  # without it there is no reload_weights
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    }


def hosts(environment: Mapping[str, str]) -> tuple[str, str]:
    """Where the server listens, and where the run's processes find it."""
    processes = environment.get("WORLD_SIZE", "1")
    if processes == environment.get("LOCAL_WORLD_SIZE", processes):
        return "127.0.0.1", "127.0.0.1"
    return "0.0.0.0", environment["MASTER_ADDR"]  # torchrun has it be the first process's machine


def free_port(host: str) -> int:
    """One that nobody listens at."""
    with socket.socket() as one:
        one.bind((host, 0))
        port: int = one.getsockname()[1]
        return port
