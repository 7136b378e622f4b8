"""Gradients of one update over all processes: their sum, and one norm to clip them by.

In: parameters whose gradients come from each process's own questions. Out: the same gradients in every
process, those that one process with all the questions would have, but for the order of the additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from ragdro.parallel.world import world_size

_BUCKET = 2**25
"""Numbers that are sent together: large enough for the network, small beside the gradients themselves."""


def all_reduce_gradients(parameters: Sequence[Parameter]) -> None:
    """Replace each gradient by its sum over the processes; a parameter that none of them used keeps none.

    Those of sharded parameters are means over the processes already, made in the backward pass.
    """
    if world_size() == 1:
        return
    for p in parameters:
        if isinstance(p.grad, DTensor):
            p.grad.mul_(world_size())
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    used = torch.tensor([p.grad is not None for p in whole], dtype=torch.uint8)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    chosen = [p for p, u in zip(whole, used.tolist(), strict=True) if u]
    for bucket in _buckets(chosen):
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in bucket])
        dist.all_reduce(flat)
        for p, summed in zip(bucket, torch.split(flat, [p.numel() for p in bucket]), strict=True):
            p.grad = summed.view_as(p).clone()


def clip(parameters: Sequence[Parameter], longest: float) -> float:
    """Scale all gradients so that their common norm is at most `longest`; returns the norm before."""
    sharded = [p.grad for p in parameters if isinstance(p.grad, DTensor)]
    if not sharded:
        return float(torch.nn.utils.clip_grad_norm_(parameters, longest))
    whole = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
    parts = [_norm(sharded), _norm(whole)]
    norm = float(torch.tensor(parts, dtype=torch.float64).norm())
    scale = min(1.0, longest / (norm + 1e-6))
    if scale < 1 or scale != scale:
        for gradient in (*sharded, *whole):
            gradient.mul_(scale)
    return norm


def _norm(gradients: Sequence[Tensor]) -> float:
    norm = torch.nn.utils.get_total_norm(gradients)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def _buckets(parameters: Sequence[Parameter]) -> Iterator[list[Parameter]]:
    """Consecutive parameters of one dtype, at most `_BUCKET` numbers or one parameter."""
    bucket: list[Parameter] = []
    for p in parameters:
        if bucket and (p.dtype != bucket[0].dtype or sum(q.numel() for q in (*bucket, p)) > _BUCKET):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket
