"""Requests under way, gathered into batches for the one thread that owns the models.

In: jobs, one a request, on the event loop. Out: their results. While a batch is worked on others wait; then
all that wait, up to a limit, are the next batch: alone a request waits for nobody. Clients that ask again as
soon as they have an answer need a moment for it: behind a batch of several they get one, so that the next
batch is not the first of them alone while all others wait for it.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from ragdro.errors import RagdroError
from ragdro.serve.jobs import Job, Result, work
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.system import Rag

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
        self._thread = ThreadPoolExecutor(1, "models")
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
        """Take no more jobs, and wait for the batch that is being worked on."""
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            with suppress(asyncio.CancelledError):
                await self._dispatcher
        await asyncio.to_thread(self._thread.shutdown)

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
            raise LateError(f"no answer within {self._settings.timeout:g} s") from error
        finally:
            with suppress(ValueError):  # it is being worked on, or done
                self._waiting.remove(waiting)
            self._meters.waiting.set(len(self._waiting))

    async def _dispatch(self) -> None:
        while True:
            await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._settings.batch))]
            self._meters.waiting.set(len(self._waiting))
            if batch:
                started = monotonic()
                await self._work(batch)
                if len(batch) > 1:
                    await self._let_come(len(batch), _PAUSE * (monotonic() - started))
            else:
                self._wake.clear()

    async def _let_come(self, count: int, seconds: float) -> None:
        """Until as many wait as were answered, or for so long."""
        until = monotonic() + seconds
        while len(self._waiting) < count and monotonic() < until:
            await asyncio.sleep(min(_LOOK_SECONDS, seconds))

    async def _work(self, batch: list[_Waiting]) -> None:
        started = monotonic()
        jobs, samples = [waiting.job for waiting in batch], self._settings.samples
        running = asyncio.get_running_loop().run_in_executor(self._thread, work, self._rags, jobs, samples)
        await asyncio.wait([running])
        spent = monotonic() - started
        self._seconds_each += 0.2 * (spent / len(batch) - self._seconds_each)
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
