"""Two batches at once: what each computes is what it computes alone, and a request alone has all threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from ragdro.errors import RagdroError
from ragdro.lm.passage_states import PassageStates
from ragdro.lm.turns import alone, beside_others
from ragdro.serve import engine as module
from ragdro.serve.engine import Engine
from ragdro.serve.jobs import Answered, AnswerJob, Job, Reranked, RerankJob, Result, work
from ragdro.serve.lanes import lanes_of
from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.types import Passage
from tests.worlds import pocket_rag


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def jobs(count: int) -> list[Job]:
    jobs: list[Job] = []
    for i in range(count):
        question = f"where does Mara{i} work?"
        passages = tuple(Passage(str(p), "", f"Mara{p} works for Firm{p + i}") for p in range(2 + i % 4))
        jobs.append(
            RerankJob(question, passages)
            if i % 3 == 0
            else AnswerJob(question, passages, samples=4 * (i % 2), scored=True, included=i % 4 == 1)
        )
    return jobs


def essence(result: Result | RagdroError) -> list[object]:
    if isinstance(result, Reranked):
        return [(c.index, pytest.approx(c.score, abs=1e-4)) for c in result.order]
    assert isinstance(result, Answered)
    ranked = [] if result.ranked is None else [p.index for p in result.ranked.passages]
    said = result.prediction.answer, result.prediction.selection.permutation, result.agreement
    return [*said, pytest.approx(result.log_probability, abs=1e-4), *ranked]


@pytest.mark.usefixtures("two_threads")
def test_two_batches_at_once_give_what_each_request_gets_alone() -> None:
    """From the first requests on, when the models are still compared with themselves."""
    asked, settings, rag = jobs(12), ServeSettings(name="x", batch=3), pocket_rag()
    torch.set_num_threads(1)
    expected = [essence(work({None: rag}, [job], settings.samples)[0]) for job in asked]
    torch.set_num_threads(2)

    async def scene() -> list[Result]:
        engine = Engine(pocket_rag(), settings, Meters())
        engine.start()
        answers = await asyncio.gather(*(engine.ask(job) for job in asked))
        await engine.stop()
        return answers

    assert [essence(result) for result in asyncio.run(scene())] == expected


@pytest.mark.usefixtures("two_threads")
def test_a_request_alone_has_all_threads_and_others_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gates = {name: threading.Event() for name in "abcdefg"}
    begun: list[tuple[str, int]] = []

    def held(rags: object, jobs: list[Job], samples: int) -> list[str]:
        names = "".join(job.question for job in jobs)
        begun.append((names, torch.get_num_threads()))
        assert gates[names[0]].wait(10)
        return list(names)

    monkeypatch.setattr(module, "work", held)

    async def until(batches: int) -> None:
        """So many have begun, however slow the machine is."""
        while len(begun) < batches:
            await asyncio.sleep(0.01)

    async def scene() -> None:
        engine = Engine(pocket_rag(), ServeSettings(name="x"), Meters())
        engine.start()
        waiting = [asyncio.ensure_future(engine.ask(RerankJob("a", ())))]
        await asyncio.wait_for(until(1), 10)
        waiting += [asyncio.ensure_future(engine.ask(RerankJob(name, ()))) for name in "bcdef"]
        await asyncio.sleep(0.05)
        assert begun == [("a", 2)]  # what is alone is alone to its end
        gates["a"].set()
        await asyncio.wait_for(until(3), 10)
        assert sorted(begun[1:]) == [("bcd", 1), ("ef", 1)]
        gates["b"].set()  # one thread is free while the other works
        await asyncio.sleep(0.3)
        waiting.append(asyncio.ensure_future(engine.ask(RerankJob("g", ()))))
        await asyncio.wait_for(until(4), 10)
        assert begun[3:] == [("g", 1)]
        for gate in gates.values():
            gate.set()
        assert await asyncio.gather(*waiting) == list("abcdefg")
        await engine.stop()

    asyncio.run(scene())


@pytest.mark.usefixtures("two_threads")
def test_what_changes_while_it_answers_works_on_one_batch_at_a_time() -> None:
    assert lanes_of([pocket_rag()]) == 2
    keeps, switches, constant = pocket_rag(passage_attention="blocks"), pocket_rag(), pocket_rag()
    keeps.generator.model.passage_states = PassageStates(2**20)
    switches.selector.model.adapter = "selector"
    assert lanes_of([constant, keeps]) == lanes_of([switches]) == 1
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
    assert lanes_of([pocket_rag(rope_parameters=rope)]) == 1  # a pass sets its module's frequencies
    torch.set_num_threads(1)
    assert lanes_of([constant]) == 1


def test_who_must_be_alone_waits_for_the_others_and_they_for_it() -> None:
    seen: list[str] = []
    both_beside = threading.Barrier(2)

    def first() -> None:
        with beside_others():
            both_beside.wait(10)
            with alone(), alone():  # again within: it is alone already
                seen.append("alone")
                time.sleep(0.1)
                seen.append("done")

    def second() -> None:
        with beside_others():
            both_beside.wait(10)
            time.sleep(0.05)
            seen.append("beside")
        with beside_others():
            seen.append("after")

    threads = [threading.Thread(target=each, daemon=True) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [name for name in seen if name != "after"] == ["beside", "alone", "done"]
    assert seen.index("after") in (1, 3)  # before it or behind it, not within
