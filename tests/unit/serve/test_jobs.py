"""A batch of unlike jobs: each gets what it would get alone."""

from __future__ import annotations

import numpy as np
import pytest

from ragdro.errors import RagdroError
from ragdro.evaluation.metrics import normalise
from ragdro.serve.jobs import Answered, AnswerJob, work
from ragdro.system import Rag, reading
from ragdro.types import Passage
from tests.worlds import pocket_rag


def passages(count: int) -> tuple[Passage, ...]:
    return tuple(Passage(str(i), "", f"Mara{i} works for Firm{i}") for i in range(count))


def answered(rag: Rag, *jobs: AnswerJob) -> list[Answered]:
    results = work({None: rag}, jobs, 4)
    assert all(isinstance(result, Answered) for result in results)
    return [result for result in results if isinstance(result, Answered)]


def test_a_batch_of_unlike_jobs() -> None:
    rag = pocket_rag()
    most = rag.selector.grammar.candidates
    jobs = [
        AnswerJob("where does Mara1 work?", passages(most), samples=6, scored=True),
        AnswerJob("where does Mara2 work?", passages(most - 1)),
        AnswerJob("where does Mara0 work?", passages(2), samples=3, scored=True),
        AnswerJob("who is Mara3?", passages(most + 4), samples=6),
        AnswerJob("who is at Firm2?", passages(most), samples=6),
    ]
    for job, together in zip(jobs, answered(rag, *jobs), strict=True):
        (alone,) = answered(rag, job)
        assert together.prediction.answer == alone.prediction.answer
        assert together.prediction.selection.permutation == alone.prediction.selection.permutation
        assert together.agreement == alone.agreement
        assert (together.log_probability is None) == (not job.scored)
        if job.scored:
            assert together.log_probability == pytest.approx(alone.log_probability, abs=1e-4)
    assert [one.agreement is None for one in answered(rag, *jobs)] == [False, True, False, True, False]


def test_agreement_counts_the_drawn_lists_that_lead_to_the_same_answer() -> None:
    rag = pocket_rag()
    job = AnswerJob("where does Mara1 work?", passages(rag.selector.grammar.candidates), samples=16)
    (found,) = answered(rag, AnswerJob("who is Mara2?", passages(3), samples=16), job)[1:]
    task = found.prediction.task
    uniforms = np.random.default_rng(0).random((16, rag.selector.choices_per_list))
    (draws,) = rag.selector.sample([task], [uniforms], temperature=1.0, max_tokens=10_000)
    assert len({draw.permutation for draw in draws}) > 1
    answers = [rag.generator.answer_many([reading(task, d.permutation)], 10_000)[0] for d in draws]
    same = [normalise(answer) == normalise(found.prediction.answer) for answer in answers]
    assert found.agreement == pytest.approx(np.mean(same))


def test_a_job_at_fault_spoils_no_other() -> None:
    rag = pocket_rag()
    good = AnswerJob("where does Mara1 work?", passages(3), samples=2, scored=True)
    bad = AnswerJob("where does Mara1 work?", ())
    first, fault, last = work({None: rag}, [good, bad, good], 4)
    assert isinstance(fault, RagdroError)
    assert isinstance(first, Answered) and isinstance(last, Answered)
    assert (first.prediction.answer, first.agreement) == (last.prediction.answer, last.agreement)
