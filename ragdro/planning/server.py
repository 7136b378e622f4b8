"""What `e_step.engine: vllm-server` takes beside the run's own processes.

In: a config. Out: its GPUs, and the weights on each of them, from the model's config alone.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from ragdro.config import Config
from ragdro.config.engine import VllmServerEngine
from ragdro.environment import env_world_size
from ragdro.lm.engines.gpus import VISIBLE, refuse_gpus, taken_gpus
from ragdro.lm.load import matmul_dtype, weights_dtype
from ragdro.planning.findings import Finding
from ragdro.planning.roles import parameter_bytes
from ragdro.units import as_bytes, counted

_CHECK = "e_step.engine"


def plan_server(config: Config, device: torch.device, processes: int) -> dict[str, Any] | None:
    """`gpus`: the server's; `weights`: bytes on each of them (without any, in main memory); `memory`: the
    fraction of each that vLLM takes, weights and cache; `devices`: how many GPUs that is with those of
    the run's `processes`, which on a CPU take none. None for another engine. Raises `ModelError`."""
    engine = config.e_step.engine
    if not isinstance(engine, VllmServerEngine):
        return None
    numbers = (
        parameter_bytes(config, "selector")
        / weights_dtype(config.selector, trained=config.trains("selector")).itemsize
    )
    weights = numbers * matmul_dtype(config.selector, device).itemsize / max(1, len(engine.gpus))
    return {
        "gpus": list(engine.gpus),
        "weights": weights,
        "memory": engine.memory,
        "devices": len(engine.gpus) + (0 if device.type == "cpu" else processes),
    }


def in_words(server: dict[str, Any]) -> str:
    """The plan of the server, for a terminal."""
    weights = as_bytes(server["weights"])
    if not server["gpus"]:
        return f"{_CHECK}: vllm-server runs on the CPU, with weights of {weights}"
    names = ", ".join(map(str, server["gpus"]))
    own, all_gpus = len(server["gpus"]), server["devices"]
    said = (
        f"{_CHECK}: vllm-server takes {counted(own, 'further GPUs' if all_gpus > own else 'GPUs')} ({names}):"
        f" weights of {weights} on each, {server['memory']:.0%} of its memory with vLLM's cache"
    )
    return f"{said}; {counted(all_gpus, 'GPUs')} with those of the run" if all_gpus > own else said


def check_server(config: Config, device: torch.device) -> Finding | None:
    """Whether the server's GPUs are here, are not the run's, and hold the weights. Raises `ConfigError` for
    GPUs that it cannot have."""
    engine, server = config.e_step.engine, plan_server(config, device, env_world_size())
    if server is None or not isinstance(engine, VllmServerEngine):
        return None
    refuse_gpus(engine, taken_gpus(config.device, os.environ))
    numbers = [gpu for gpu in engine.gpus if isinstance(gpu, int)]
    if device.type == "cuda" and torch.cuda.is_available() and engine.gpus:
        there = torch.cuda.device_count()
        if VISIBLE not in os.environ and max(numbers, default=0) >= there:
            return Finding(_CHECK, "problem", f"gpus: there are {counted(there, 'GPUs')} here, from 0")
        room = engine.memory * torch.cuda.get_device_properties(device).total_memory
        if server["weights"] > room:
            text = f"{in_words(server)}, which is {as_bytes(room)}; give it more GPUs"
            return Finding(_CHECK, "problem", text.removeprefix(f"{_CHECK}: "))
    return Finding(_CHECK, "ok", in_words(server).removeprefix(f"{_CHECK}: "))
