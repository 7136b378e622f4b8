"""Gathering, the bounded queue, time-outs, clients that leave, faults: with a stand-in for the models."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from ragdro.errors import ConfigError, RagdroError
from ragdro.serve import engine as module
from ragdro.serve.engine import Engine, LateError, OverloadedError
from ragdro.serve.jobs import Job, RerankJob, Result
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from tests.worlds import pocket_rag


class Work:
    """Answers a job with its question; holds every batch back until `gate` is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.seconds = 0.0
        self.batches: list[list[str]] = []

    def __call__(self, rag: object, jobs: Sequence[Job], samples: int) -> list[Result | RagdroError | str]:
        self.batches.append([job.question for job in jobs])
        assert self.gate.wait(10)
        time.sleep(self.seconds)
        if any(job.question == "crash" for job in jobs):
            raise ZeroDivisionError
        return [ConfigError("bad") if job.question == "bad" else job.question for job in jobs]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    made = Work()
    monkeypatch.setattr(module, "work", made)
    monkeypatch.setattr(module, "lanes_of", lambda rags: 1)  # however many threads there are
    return made


def make(**settings: object) -> Engine:
    made = Engine(pocket_rag(), ServeSettings(name="x", **settings), Meters())  # type: ignore[arg-type]
    made._seconds_each = 2.0
    return made


def ask(engine: Engine, question: str) -> asyncio.Task[object]:
    return asyncio.ensure_future(engine.ask(RerankJob(question, ())))


def test_those_who_wait_are_the_next_batch(work: Work) -> None:
    async def scene() -> None:
        engine = make(batch=3)
        engine.start()
        first = ask(engine, "0")
        await asyncio.sleep(0.05)
        others = [ask(engine, str(i)) for i in range(1, 6)]
        await asyncio.sleep(0.05)
        work.gate.set()
        assert await asyncio.gather(first, *others) == list("012345")
        assert work.batches == [["0"], ["1", "2", "3"], ["4", "5"]]
        await engine.stop()

    asyncio.run(scene())


def test_those_who_got_an_answer_come_back_into_one_batch(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks again soon after its answer, in turn: without a pause the first would be alone."""
    monkeypatch.setattr(module, "_PAUSE", 20.0)
    work.seconds = 0.05
    work.gate.set()

    async def client(engine: Engine, name: int) -> None:
        for turn in range(3):
            await engine.ask(RerankJob(f"{turn}.{name}", ()))
            await asyncio.sleep(0.01 + name / 200)

    async def scene() -> None:
        engine = make()
        engine.start()
        await asyncio.gather(*(client(engine, name) for name in range(4)))
        await engine.ask(RerankJob("alone", ()))
        started = time.monotonic()
        await engine.ask(RerankJob("alone again", ()))
        assert time.monotonic() - started < 0.9  # nobody is waited for
        await engine.stop()

    asyncio.run(scene())
    assert [len(batch) for batch in work.batches] == [4, 4, 4, 1, 1]


def test_a_full_queue_says_when_to_come_back_and_who_leaves_makes_room(work: Work) -> None:
    async def scene() -> None:
        engine = make(queue=2)
        engine.start()
        working = ask(engine, "0")
        await asyncio.sleep(0.05)
        leaving, staying = ask(engine, "1"), ask(engine, "2")
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError) as full:
            await engine.ask(RerankJob("3", ()))
        assert full.value.retry_after == 4  # two wait, two seconds each
        leaving.cancel()
        await asyncio.sleep(0.05)
        late = ask(engine, "4")
        await asyncio.sleep(0.05)
        work.gate.set()
        assert await asyncio.gather(working, staying, late) == ["0", "2", "4"]
        assert work.batches == [["0"], ["2", "4"]]
        await engine.stop()

    asyncio.run(scene())


def test_time_outs_and_faults_are_each_jobs_own(work: Work) -> None:
    async def scene() -> None:
        engine = make(timeout=1.0)
        engine.start()
        with pytest.raises(LateError, match=r"within 1 s"):
            await engine.ask(RerankJob("slow", ()))
        work.gate.set()
        bad, good = ask(engine, "bad"), ask(engine, "good")
        with pytest.raises(ConfigError, match="bad"):
            await bad
        assert await good == "good"
        with pytest.raises(ZeroDivisionError):
            await engine.ask(RerankJob("crash", ()))
        assert await engine.ask(RerankJob("after", ())) == "after" and engine.is_ready
        await engine.stop()
        assert not engine.is_ready

    asyncio.run(scene())
