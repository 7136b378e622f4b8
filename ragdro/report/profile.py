"""`ragdro train --profile`: where the time of a run went, as a file and as a table.

In: a config and the run itself. Out: `profile.json` in the run folder (see `Profile.summary`), and a row a
phase on the terminal. Time before the first phase and between phases is `other`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ragdro.config import Config
from ragdro.files import write_atomically
from ragdro.lm.load import matmul_dtype, pick_device
from ragdro.lm.peak import measured_peak, synchronise
from ragdro.profiling import Profile, profiled
from ragdro.units import counted


def profile_run(config: Config, folder: Path, run: Callable[[], object]) -> dict[str, Any]:
    """Do the run with every phase measured; write and return the summary."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    dtype = matmul_dtype(config.selector, device)
    with profiled(Profile(measured_peak(device, dtype), partial(synchronise, device))) as profile:
        run()
    summary = {"device": device_name(device), "dtype": str(dtype).removeprefix("torch."), **profile.summary()}
    write_atomically(folder / "profile.json", json.dumps(summary, indent=2) + "\n")
    return summary


def device_name(device: torch.device) -> str:
    """What the metrics are of: the GPU's name, or how many threads of the CPU."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {counted(torch.get_num_threads(), 'threads')}"


def print_profile(summary: dict[str, Any], console: Console | None = None) -> None:
    """One row a phase, the longest first, and their sum."""
    table = Table(box=SIMPLE_HEAD, title=f"peak {summary['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s")
    for name in ("phase", "seconds", "fraction", "tokens/s", "GFLOP/s", "of peak"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for name, row in {**summary["phases"], "total": summary["total"]}.items():
        rates = ["–"] * 3
        if row["tokens"]:
            rates = [
                f"{row['tokens_per_second']:,.0f}",
                f"{row['flops_per_second'] / 1e9:,.1f}",
                f"{row['utilisation']:.2f}",
            ]
        table.add_row(name, f"{row['seconds']:.2f}", f"{row['fraction']:.3f}", *rates)
    (console or Console()).print(table)
