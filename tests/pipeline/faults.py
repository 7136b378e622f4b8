"""What goes wrong in a process of a run on purpose: it dies, stops, computes NaN, sees files late."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.pipeline.crash import KILLED


def die_in_update(number: int) -> None:
    """The process ends, as by kill -9, in the `number`-th update of the run."""
    on_update(number, lambda optimiser: os._exit(KILLED))


def on_update(number: int, act: Any) -> None:
    from torch.optim import AdamW

    done, step = [0], AdamW.step

    def taken(self: AdamW) -> None:
        done[0] += 1
        if done[0] == number:
            act(self)
        step(self)

    AdamW.step = taken  # type: ignore[assignment,method-assign]


def stall(work: str) -> None:
    """This process stops in an update, or in a shard of an E-step."""
    if work == "gradient_step":
        on_update(2, lambda optimiser: os.kill(os.getpid(), signal.SIGSTOP))
        return
    from ragdro.training import cross_fit

    score, done = cross_fit.answer_log_likelihoods, []

    def late(*arguments: Any) -> Any:
        if not done:
            os.kill(os.getpid(), signal.SIGSTOP)
        done.append(True)
        return score(*arguments)

    cross_fit.answer_log_likelihoods = late


def terminated_behind(late: dict[str, Any]) -> None:
    see_late(late)
    terminated_in_update(5)


def see_late(late: dict[str, Any]) -> None:
    """What is younger than so many seconds is not there for this process, unless it wrote it."""
    folders, seconds = tuple(late["folders"]), late["seconds"]
    stat, opened, listed, made, allowed = os.stat, io.open, os.listdir, os.mkdir, os.chmod
    scanned = os.scandir
    own, moved = set[str](), set[str]()

    def hidden(path: Any) -> bool:
        if not isinstance(path, (str, os.PathLike)):
            return False
        name = str(Path(path).absolute())
        if not name.startswith(folders) or name in own or name.startswith(tuple(moved)):
            return False
        try:
            return time.time() - stat(name).st_ctime < seconds
        except FileNotFoundError:
            return False

    def seen(work: Any) -> Any:
        def look(path: Any = ".", *rest: Any, **named: Any) -> Any:
            if hidden(path):
                raise FileNotFoundError(errno.ENOENT, "not here yet", str(path))
            return work(path, *rest, **named)

        return look

    def open_seen(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if set(mode) & set("wax"):
            own.add(str(Path(path).absolute()))
        return seen(opened)(path, mode, *rest, **named)

    def mkdir(path: Any, *rest: Any, **named: Any) -> None:
        own.add(str(Path(path).absolute()))  # a machine that has asked for it knows it
        made(path, *rest, **named)

    def chmod(path: Any, *rest: Any, **named: Any) -> None:
        own.add(str(Path(path).absolute()))  # of a file that safetensors wrote, past `open`
        allowed(path, *rest, **named)

    def moving(work: Any) -> Any:
        def move(path: Any, other: Any, **named: Any) -> None:
            name = str(Path(other).absolute())
            work(path, other, **named)
            own.add(name)
            moved.add(f"{name}/")  # all that is in a folder

        return move

    os.replace, os.rename = moving(os.replace), moving(os.rename)
    os.scandir = lambda path=".": Entries(e for e in scanned(path) if not hidden(e.path))  # type: ignore[assignment]
    os.mkdir, os.chmod = mkdir, chmod  # type: ignore[assignment]
    os.stat = seen(stat)
    io.open = builtins.open = open_seen
    os.listdir = lambda path=".": [n for n in listed(path) if not hidden(Path(path) / n)]  # type: ignore[assignment,misc]


class Entries:
    """What `os.scandir` gives."""

    def __init__(self, entries: Iterable[os.DirEntry[Any]]) -> None:
        self._entries = iter(entries)

    def __enter__(self) -> Entries:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __iter__(self) -> Entries:
        return self

    def __next__(self) -> os.DirEntry[Any]:
        return next(self._entries)


def terminated_in_update(number: int) -> None:
    """SIGTERM comes to one process while the `number`-th update is computed."""
    on_update(number, lambda optimiser: os.kill(os.getpid(), signal.SIGTERM))


def bad_loss(given: None) -> None:
    """The loss of this process's first micro-batch is NaN."""
    from ragdro.training import m_step

    log_probs, done = m_step.log_probs, []

    def once(*arguments: Any) -> Any:
        values = log_probs(*arguments)
        if not done and values[0].requires_grad:
            done.append(True)
            values[0] = values[0] * float("nan")
        return values

    m_step.log_probs = once


def terminated_in_sharded_update(number: int) -> None:
    """Says how many weights of those that are shared out are moved here, then SIGTERM comes."""

    def act(optimiser: Any) -> None:
        from torch.distributed.tensor import DTensor

        moved = optimiser.param_groups[0]["params"]
        parts = [p.to_local() for p in moved if isinstance(p, DTensor)] or moved
        print(f"\nparts: {sum(p.numel() for p in parts)}")
        os.kill(os.getpid(), signal.SIGTERM)

    on_update(number, act)


if __name__ == "__main__":  # `ragdro` on a machine that sees late what its first argument says
    see_late(json.loads(sys.argv.pop(1)))
    from ragdro.cli import main

    main()
