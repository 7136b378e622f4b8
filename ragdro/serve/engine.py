"""Requests under way, gathered into batches for the threads that compute with the models.

In: jobs, one a request, on the event loop. Out: their results. While all threads work others wait; then all
that wait, up to a limit and to what is fair to the other threads, are the next batch. Alone a request waits
for nobody, and has the whole processor (`ragdro.serve.lanes`). Clients that ask again as soon as they have an
answer need a moment for it: behind a batch of several they get one, so that the next batch is not the first
of them alone while all others wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

import torch

from ragdro.errors import RagdroError
from ragdro.lm.turns import beside_others
from ragdro.serve.jobs import Job, Result, work
from ragdro.serve.lanes import lanes_of
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.system import Rag

_T = TypeVar("_T")
_PAUSE = 0.05
"""Most of a batch's time that is waited for those who got their answers from it."""
_LOOK_SECONDS = 0.002


class OverloadedError(RagdroError):
    """Too many wait already; `retry_after` seconds from now there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


class LateError(RagdroError):
    """No answer in time."""


class ClientLeftError(RagdroError):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job
    result: asyncio.Future[Result]


class Engine:
    """`start` it on the event loop that calls `ask`. `others`: the systems of stages that a job may name."""

    def __init__(
        self,
        rag: Rag,
        settings: ServeSettings,
        meters: Meters,
        others: Mapping[str, Rag] | None = None,
    ) -> None:
        self._rags: dict[str | None, Rag] = {None: rag}
        self._rags.update(others or {})
        self._settings = settings
        self._meters = meters
        self._waiting: deque[_Waiting] = deque()
        self._lanes = lanes_of(self._rags.values())
        self._threads = torch.get_num_threads()
        self._pools = [ThreadPoolExecutor(1, f"models-{i}") for i in range(self._lanes)]
        """A lane's thread. A request that is alone has the first one's: OpenMP keeps a thread's helpers, and
        where all of them together are more than there are cores, each waits asleep in place of ready."""
        self._running: dict[asyncio.Task[None], tuple[int, int]] = {}
        """Batches that are worked on: how many jobs each has, and its lane."""
        self._is_whole = False
        """Whether one of them has the whole processor."""
        self._seconds_each = 0.1
        """Of late, for a request in a batch."""
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether jobs are taken."""
        return self._dispatcher is not None and not self._dispatcher.done()

    def start(self) -> None:
        """Begin to take jobs."""
        self._wake = asyncio.Event()
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def stop(self) -> None:
        """Take no more jobs, and wait for the batches that are being worked on."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.wait([self._dispatcher])
        await asyncio.gather(*self._running)
        for pool in self._pools:
            await asyncio.to_thread(pool.shutdown)

    async def ask(self, job: Job) -> Result:
        """The job's result. Cancelling the call frees its place.

        Raises `OverloadedError` where too many wait, `LateError` after the settings' timeout, and the job's
        own `RagdroError`.
        """
        if len(self._waiting) >= self._settings.queue:
            raise OverloadedError(max(1, math.ceil(len(self._waiting) * self._seconds_each)))
        waiting = _Waiting(job, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._meters.waiting.set(len(self._waiting))
        self._wake.set()
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await waiting.result
        except TimeoutError as error:
            raise LateError(
                f"no answer within {self._settings.timeout:g} s; try again later or with fewer passages, or"
                " start the server with a longer --timeout"
            ) from error
        finally:
            with suppress(ValueError):  # it is being worked on, or done
                self._waiting.remove(waiting)
            self._meters.waiting.set(len(self._waiting))

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting and len(self._running) < self._lanes and not self._is_whole:
                self._begin()

    def _begin(self) -> None:
        """Work on the next batch: of all jobs under way no more than a thread's part."""
        under_way = len(self._waiting) + sum(jobs for jobs, _ in self._running.values())
        size = min(len(self._waiting), self._settings.batch, math.ceil(under_way / self._lanes))
        self._is_whole = under_way == 1
        threads = self._threads if under_way == 1 else max(1, self._threads // self._lanes)
        batch = [self._waiting.popleft() for _ in range(size)]
        self._meters.waiting.set(len(self._waiting))
        lane = min(set(range(self._lanes)) - {taken for _, taken in self._running.values()})
        task = asyncio.create_task(self._work(batch, threads, lane))
        self._running[task] = len(batch), lane
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._is_whole = False
        self._wake.set()

    async def _let_come(self, count: int, seconds: float) -> None:
        """Until as many wait as were answered, or for so long."""
        until = monotonic() + seconds
        while len(self._waiting) < count and monotonic() < until:
            await asyncio.sleep(min(_LOOK_SECONDS, seconds))

    async def _work(self, batch: list[_Waiting], threads: int, lane: int) -> None:
        started = monotonic()
        jobs, samples = [waiting.job for waiting in batch], self._settings.samples
        lanes, pool = 1 if self._is_whole else self._lanes, self._pools[lane]
        compute = partial(work, self._rags, jobs, samples)
        running = asyncio.get_running_loop().run_in_executor(pool, _with_threads, threads, compute)
        await asyncio.wait([running])
        spent = monotonic() - started
        self._seconds_each += 0.2 * (spent / len(batch) / lanes - self._seconds_each)
        self._meters.batch.observe(len(batch))
        self._meters.work.observe(spent)
        fault = running.exception()
        results = [fault] * len(batch) if fault is not None else running.result()
        for waiting, result in zip(batch, results, strict=True):
            if waiting.result.done():  # late, or its client has left
                continue
            if isinstance(result, BaseException):
                waiting.result.set_exception(result)
            else:
                waiting.result.set_result(result)
        if len(batch) > 1:
            await self._let_come(len(batch), _PAUSE * spent)


def _with_threads(threads: int, compute: Callable[[], _T]) -> _T:
    """What it returns, with so many of the processor's threads; their number is each thread's own."""
    torch.set_num_threads(threads)
    with beside_others():
        return compute()
