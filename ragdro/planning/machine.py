"""Whether the machine is what a run takes: device, memory, disk, time.

In: a config and, for sizes, its plan (`ragdro.planning.plan`). Out: `Finding`s.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ragdro.config import Config
from ragdro.lm.load import matmul_dtype, pick_device
from ragdro.lm.peak import measured_peak
from ragdro.planning.findings import Finding
from ragdro.progress import duration
from ragdro.runs.models import settings_of
from ragdro.units import as_bytes, as_count, counted

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def check_device(config: Config) -> Finding:
    """Whether the device is there. Raises `ModelError` for a name that is none."""
    device = pick_device(config.device)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return Finding("device", "problem", f"{device}: torch sees no GPU; set device: cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            return Finding("device", "problem", f"{device}: there are {torch.cuda.device_count()} GPUs")
        return Finding("device", "ok", f"{device}: {torch.cuda.get_device_name(device)}")
    return Finding("device", "ok", f"{device}, {counted(os.cpu_count() or 1, 'cores')}")


def is_there(device: torch.device) -> bool:
    """Whether something can be computed on the device."""
    return device.type != "cuda" or torch.cuda.is_available()


def memory_of(device: torch.device) -> int | None:
    """The bytes of a device; None where it is not there or does not say."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return None
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu":
        return None
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return min(here, int(limit)) if limit.isdigit() else here


def check_memory(planned: Mapping[str, Any], available: int | None) -> Finding:
    """Whether the worst moment of the plan fits the device."""
    needed = planned["memory"]
    name = max(planned["phases"], key=lambda phase: planned["phases"][phase]["memory"])
    if available is None:
        return Finding("memory", "note", f"{as_bytes(needed)} planned ({name}); the device is not there")
    text = f"{as_bytes(needed)} planned ({name}), {as_bytes(available)} there"
    return Finding("memory", "problem" if needed > available else "ok", text)


def bytes_to_write(config: Config, planned: Mapping[str, Any], weights: Mapping[str, int]) -> float:
    """What a run has on disk at most: its checkpoints, and the state that it resumes from.

    `weights`: the bytes of each role's model. Of an adapter the plan says how large it is.
    """
    phases = planned["phases"]
    checkpoint = state = 0.0
    for role in config.roles:
        update = phases.get(f"{role} update", {"gradients": 0.0, "optimiser": 0.0})
        checkpoint += weights[role] if settings_of(config, role).adapter is None else update["gradients"]
        state += update["gradients"] + update["optimiser"]
    # Of the best, the last and the one that is being written, two may be one.
    kept = config.iterations + 1 if config.checkpoints.keep == "all" else min(3, config.iterations + 1)
    return kept * checkpoint + 2 * state  # a state is written beside the one before it


def check_disk(folder: Path, needed: float) -> Finding:
    """Whether the disk of a folder, which need not be there yet, has room."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"up to {as_bytes(needed)} to write in {folder}, {as_bytes(free)} free"
    return Finding("disk", "problem" if needed > free else "ok", text)


def check_time(config: Config, planned: Mapping[str, Any], device: torch.device) -> Finding:
    """How long an iteration takes at least."""
    peak = measured_peak(device, matmul_dtype(config.selector, device))
    least = duration(planned["flops"] / peak)
    speed = f"{as_count(planned['flops'])} FLOPs at this machine's peak of {as_count(peak)} FLOP/s"
    return Finding(
        "time", "ok", f"an iteration takes at least {least}, and often several times that ({speed})"
    )
