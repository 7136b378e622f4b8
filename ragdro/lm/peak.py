"""How fast the machine multiplies matrices: what a model's FLOP/s are held against.

In: a device and a dtype. Out: FLOP/s of one big product, the best of a few, so that a machine that is busy
elsewhere for a moment still shows its own.
"""

from __future__ import annotations

import time

import torch

_SIZES = {"cpu": 2048, "cuda": 8192}


def measured_peak(
    device: torch.device, dtype: torch.dtype, *, size: int | None = None, tries: int = 4
) -> float:
    """FLOP/s of a square matrix product (2 size^3 FLOPs)."""
    size = size or _SIZES.get(device.type, 2048)
    rng = torch.Generator(device).manual_seed(0)  # constant numbers would be multiplied faster than real ones
    a, b = (torch.randn(size, size, dtype=dtype, device=device, generator=rng) for _ in range(2))
    best = float("inf")
    for _ in range(tries):
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
