"""The processes of one run: who takes what, and what all must agree on.

In: what `torchrun` tells each process (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR …). Out: work shared out,
with its results back in order, sums over the processes, and answers that are the same everywhere. A process
alone is a world of its own, in which all of this is the identity.

All processes make the same calls in the same order: whatever decides about a call is agreed on first. How
long one waits for another depends on the work that it is `waiting_for`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import torch
import torch.distributed as dist

from ragdro.config import Timeouts
from ragdro.environment import env_world_size
from ragdro.errors import ConfigError, LostProcessError, RagdroError, TrainingError
from ragdro.lm.load import pick_device

Item = TypeVar("Item")
Result = TypeVar("Result")

Work: TypeAlias = Literal["loading", "e_step", "gradient_step", "saving"]
"""What a process may be waited for: the fields of `Timeouts`."""
_LOST = re.compile(r"Connection (closed|reset|refused)|Broken pipe|remote (process|error)|NCCL communicator")
_TIMED_OUT = re.compile(r"[Tt]imed? ?out")
_VISIBLE = 120.0
"""Seconds until what one machine wrote into a shared folder has to be there on all (NFS: 60 at most)."""

_work: ContextVar[Work] = ContextVar("work", default="loading")
_groups: dict[Work, dist.ProcessGroup] = {}
"""All processes, over gloo, with the patience of each work; empty where there is one alone."""
_patience = Timeouts()


@contextmanager
def joined(device: str, timeouts: Timeouts) -> Iterator[None]:
    """Be one of the processes that `torchrun` started, over gloo and, on GPUs, NCCL; alone, do nothing.

    `device` and `timeouts` are the config's. Raises `LostProcessError` in here where another process has
    ended or does not come in time, `ConfigError` for a device that this process cannot have.
    """
    global _patience
    if env_world_size() == 1:
        yield
        return
    backend = "gloo"
    if _own_gpu(device):
        backend = "cpu:gloo,cuda:nccl"
    _patience = timeouts
    dist.init_process_group(backend, timeout=_minutes("gradient_step"))  # what gradients are sent in
    try:
        for work in get_args(Work):
            _groups[work] = dist.new_group(backend="gloo", timeout=_minutes(work))
        with waiting_for("loading"):
            yield
    finally:
        _groups.clear()
        dist.destroy_process_group()


@contextmanager
def waiting_for(work: Work) -> Iterator[None]:
    """What is waited for in this block is this work. Raises `LostProcessError` where it does not come."""
    token = _work.set(work)
    try:
        yield
    except RuntimeError as error:
        if _groups and _LOST.search(str(error)):
            raise LostProcessError(
                "another process of the run has ended, so this one stops; the other said why, if it could."
                " Start again with resume=True"
            ) from error
        if not _groups or not _TIMED_OUT.search(str(error)):
            raise
        raise LostProcessError(
            f"another process of the run did not come within {getattr(_patience, work):g} minutes"
            f" (parallel.timeouts.{work}), so this one stops; look at what the other does, then start again"
            " with resume=True"
        ) from error
    finally:
        _work.reset(token)


def _minutes(work: Work) -> timedelta:
    return timedelta(minutes=getattr(_patience, work))


def _group() -> dist.ProcessGroup | None:
    """The processes, with the patience that the work of the moment has."""
    return _groups.get(_work.get())


def visible(path: Path) -> Path:
    """The path of what another process wrote, once it is there: a folder that machines share may be late.

    Raises `TrainingError` where it stays away.
    """
    until = time.monotonic() + _VISIBLE
    while world_size() > 1 and not path.exists():
        if time.monotonic() > until:
            raise TrainingError(
                f"{path}: another process wrote it, and after {_VISIBLE:g} s it is not there; runs, cache and"
                " data have to lie where all machines see them"
            )
        time.sleep(0.1)
        with suppress(OSError):  # a machine asks anew what there is when it lists the folder
            list(path.parent.iterdir())
    return path


def see_alike(folder: Path) -> None:
    """Wait until all processes see the same files below a folder that machines share: what the first one
    does not see yet it would begin anew.

    Raises `TrainingError` naming a file that some do not see for too long.
    """
    until = time.monotonic() + _VISIBLE
    while world_size() > 1:
        seen = all_gather_object((_files_below(folder), time.monotonic() > until))
        files = [there for there, _ in seen]
        apart = sorted(set[Path]().union(*files) - files[0].intersection(*files))
        if not apart:
            return
        if any(expired for _, expired in seen):
            raise TrainingError(
                f"{apart[0]}: after {_VISIBLE:g} s some processes see it and others do not; runs, cache and"
                " data have to lie where all machines see them"
            )
        time.sleep(0.1)


def _files_below(folder: Path) -> set[Path]:
    return {Path(place, name) for place, _, names in os.walk(folder) for name in names}


def _own_gpu(device: str) -> bool:
    """Take the GPU of this process; false on a CPU."""
    chosen = pick_device(device)
    if chosen.type != "cuda":
        return False
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if chosen.index is not None:
        raise ConfigError(
            f"device: '{device}' is one GPU, and each of {env_world_size()} processes takes its own: cuda"
        )
    if local >= there:
        raise ConfigError(f"device: this machine has {there} GPUs and more processes (--nproc_per_node)")
    torch.cuda.set_device(local)
    return True


def own_group() -> dist.ProcessGroup | None:
    """All processes in another group, over gloo, for what they say to one another of a save while training
    does; None where there is one alone."""
    return dist.new_group(backend="gloo", timeout=_minutes("saving")) if dist.is_initialized() else None


def world_size() -> int:
    """How many processes there are."""
    return int(dist.get_world_size()) if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return int(dist.get_rank()) if dist.is_initialized() else 0


def is_rank0() -> bool:
    """Whether this is the one process that writes and prints."""
    return rank() == 0


def local_shard(items: Sequence[Item]) -> Sequence[Item]:
    """This process's items: every `size`-th. The processes' parts differ by one item at most."""
    return items[rank() :: world_size()]


def map_sharded(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]
) -> Sequence[Result]:
    """One result an item, in the items' order, each process working on its part alone."""
    if world_size() == 1:
        return work(items)
    shard = local_shard(items)
    parts = all_gather_object(work(shard) if shard else [])
    return [parts[i % world_size()][i // world_size()] for i in range(len(items))]


def balanced(sizes: Sequence[int], taken: int = 0) -> list[int]:
    """Which process takes each of some things of these sizes, so that all take about as much; the first one
    has `taken` so much already."""
    loads, ranks = [taken, *[0] * (world_size() - 1)], [0] * len(sizes)
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        ranks[i] = loads.index(min(loads))
        loads[ranks[i]] += sizes[i]
    return ranks


def all_gather_object(value: Item, group: dist.ProcessGroup | None = None) -> list[Item]:
    """Every process's value, in their order, through a `group` (None: that of the work of the moment)."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group=group or _group())
    return values


def all_reduce_sum(*values: float | int) -> list[float | int]:
    """The sum over the processes of each value."""
    if world_size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(sums, group=_group())
    return sums.tolist()


def all_reduce_max(value: int) -> int:
    """The largest of the processes' values."""
    return max(all_gather_object(value))


def all_reduce_any(value: bool) -> bool:
    """Whether it is so in any process."""
    return all_reduce_sum(int(value))[0] > 0


def broadcast_from_rank0(work: Callable[[], Result]) -> Result:
    """What `work` gives in the main process, in all. Where it raises one of our errors, the others end in
    silence with its exit code."""
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if is_rank0():
        try:
            outcome[0] = work()
        except RagdroError as error:
            dist.broadcast_object_list([None, error.exit_code], group=_group())
            raise
    dist.broadcast_object_list(outcome, group=_group())
    if outcome[1] is not None:
        raise SystemExit(outcome[1])
    result: Result = outcome[0]
    return result
