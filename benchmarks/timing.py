"""Two sides timed in one run, in turn, and the JSON line of a benchmark.

In: a `Trial` and sides, functions that do the whole job once. Out: seconds turn by turn, ratios within a turn
(whatever else the machine does meets all sides), peak memory over what was held before, utilisation.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.trial import Trial
from ragdro.lm.peak import measured_peak, synchronise
from ragdro.profiling import Profile, profiled
from ragdro.report.profile import device_name

Side = Callable[[], object]


def same(what: str, ours: Any, reference: Any, tolerance: float) -> None:
    """Refuse to time two sides that do not agree (relative to the larger value, at least 1)."""
    a, b = (torch.as_tensor(x).detach().double().cpu() for x in (ours, reference))
    worst = float(((a - b).abs() / b.abs().clamp(min=1)).max())
    assert a.shape == b.shape and worst <= tolerance, f"{what}: the sides differ by {worst:.3g}"


def that_fit(sides: dict[str, Side]) -> dict[str, Side]:
    """The sides whose job fits the device's memory: `ours` must."""
    there = {}
    for name, side in sides.items():
        try:
            side()
            there[name] = side
        except torch.OutOfMemoryError:
            if name == "ours":
                raise
            torch.cuda.empty_cache()
    return there


def timed(trial: Trial, sides: dict[str, Side]) -> dict[str, list[float]]:
    """Seconds of each side, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(trial.repeats):
        for name, side in sides.items():
            synchronise(trial.device)
            start = time.perf_counter()
            side()
            synchronise(trial.device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def middle(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Each side's median."""
    return {name: round(statistics.median(values), 4) for name, values in seconds.items()}


def ratio(seconds: dict[str, list[float]], side: str, over: str) -> float:
    """The median, over the turns, of one side's seconds over another's in the same turn."""
    turns = zip(seconds[side], seconds[over], strict=True)
    return round(statistics.median(a / b for a, b in turns), 3)


def compare(trial: Trial, sides: dict[str, Side], *, memory: bool = False) -> dict[str, Any]:
    """Times, ratios of each other side over `ours`, our utilisation, and (if asked for) peak memory."""
    if trial.only:
        return {"peak_mib": _peak_mib(trial, sides[trial.only])}
    asked = list(sides)
    if trial.device.type == "cuda":
        sides = that_fit(sides)
    seconds = timed(trial, sides)
    result: dict[str, Any] = {
        "ratio": {name: ratio(seconds, name, "ours") for name in sides if name != "ours"},
        "seconds": middle(seconds),
        **_rates(trial, sides["ours"], middle(seconds)["ours"]),
    }
    if len(sides) < len(asked):
        result["out_of_memory"] = [name for name in asked if name not in sides]
    if memory and trial.model != "smallest":
        result["peak_mib"] = {name: _peak_of(trial, name, side) for name, side in sides.items()}
    return result


def _rates(trial: Trial, ours: Side, seconds: float) -> dict[str, Any]:
    dtype = torch.float32 if trial.device.type == "cpu" else torch.bfloat16
    peak = measured_peak(trial.device, dtype, size=64 if trial.model == "smallest" else None)
    with profiled(Profile(peak)) as profile:
        ours()
    flops, tokens = sum(profile.flops.values()), sum(profile.tokens.values())
    return {
        "tokens_per_second": round(tokens / seconds),
        "model_flops_utilisation": round(flops / seconds / peak, 4),
        "peak_gflops_per_second": round(peak / 1e9, 1),
    }


def _peak_of(trial: Trial, name: str, side: Side) -> float:
    """On a GPU here; on a CPU by this command again, for this side alone."""
    if trial.device.type == "cuda":
        return _peak_mib(trial, side)
    module = f"benchmarks.{Path(sys.argv[0]).stem}"
    command = [sys.executable, "-m", module, *sys.argv[1:], "--only", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["peak_mib"])


def _peak_mib(trial: Trial, side: Side) -> float:
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts again from here
    side()
    return round((resident("VmHWM") - before) / 2**10, 1)


def resident(field: str) -> int:
    """KiB of this process's memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def report(trial: Trial, name: str, **metrics: Any) -> None:
    """The one JSON line."""
    keys = ("model", "prompt", "samples", "k", "n", "questions", "repeats", "lora", "amp", "kernels")
    sizes = {key: getattr(trial, key) for key in keys}
    print(json.dumps({"benchmark": name, "device": device_name(trial.device), **sizes, **metrics}))
