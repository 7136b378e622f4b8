"""Questions that are asked more than once, trained in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import ragdro
from ragdro.algorithms import Algorithm, Dpo, Dro, DroCentered, Rejection, Rloo, Rrpo
from ragdro.config import EStep, Evaluation, Mixture, MStep, Optimisation, WarmUp
from ragdro.config.answering import Answering, AnsweringKind
from ragdro.config.retrieval import Retrieval
from ragdro.errors import ConfigError
from ragdro.prompts import load_template
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import as_find
from ragdro.rewriting.asking import Asking
from ragdro.system import Rag
from ragdro.training.m_step import Update
from ragdro.types import ENOUGH
from tests.paths import far_passages, far_questions, pocket_rewriter
from tests.worlds import pocket_rag

FIT = Optimisation(learning_rate=1e-3, batch_size=2)
TWO = Retrieval(rounds=2, k=(1, 2), stop=True)
SHORT: dict[str, Any] = {
    "warm_up": WarmUp(selector=FIT, generator=FIT, rewriter=FIT),
    "m_step": MStep(selector=FIT, generator=FIT, rewriter=FIT),
    "e_step": EStep(samples=3),
    "evaluation": Evaluation(samples=3, tight_samples=None),
    "iterations": 2,
    "retrieval": TWO,
    "top_n": 4,
}


class Seen(ragdro.Callback):
    """Who was fitted when, and the samples of every E-step."""

    def __init__(self) -> None:
        self.fits: list[tuple[str, str]] = []
        self.samples: list[Any] = []

    def on_update(self, stage: str, role: str, update: Update) -> None:
        if (stage, role) not in self.fits:
            self.fits.append((stage, role))

    def on_e_step(self, stage: str, weighted: Any, metrics: Any) -> None:
        self.samples.append(weighted)


def trained(kind: str = "list", **settings: Any) -> tuple[dict[str, Any], Rag, Seen]:
    rag, rewriter, seen = pocket_rag(k=2, n=4, kind=kind), pocket_rewriter(), Seen()
    questions, retriever = far_questions(8), retriever_over(far_passages(8))
    results = ragdro.train(
        rag.selector,
        rag.generator,
        questions[:6],
        rewriter=rewriter,
        validation=questions[6:],
        retriever=retriever,
        callbacks=[seen],
        **{**SHORT, **settings},
    )
    asking = Asking(rewriter, as_find(retriever), TWO, rag.selector)
    return results, Rag(rag.selector, rag.generator, rag_retrieve(retriever), asking=asking), seen


def rag_retrieve(retriever: Any) -> Any:
    return lambda questions: list(retriever.search(questions, 4))


@pytest.mark.parametrize("algorithm", [Dro(), DroCentered(), Rloo(), Rejection()], ids=lambda a: a.kind)
def test_all_three_are_trained(algorithm: Algorithm) -> None:
    results, _, seen = trained(algorithm=algorithm)
    roles = ("selector", "generator", "rewriter")
    assert {role for stage, role in seen.fits if stage == "warm_up"} == set(roles)
    assert {role for stage, role in seen.fits if stage == "iteration-2"} == set(roles)
    assert len(results["iterations"]) == 2 and results["best"]["questions"] == 2
    for weighted in seen.samples:
        for one in weighted:
            assert sum(s.weight for s in one.samples) == pytest.approx(1)
            assert all(s.path is not None and len(s.path.rounds) == 2 for s in one.samples)
            assert len(one.drawn) == 3


def test_a_pointer_a_mixture_and_a_frozen_rewriter() -> None:
    before = [p.detach().clone() for p in pocket_rewriter().model.hf.parameters()]
    warm_up = WarmUp(selector=FIT, generator=FIT, rewriter=None)
    step = EStep(samples=3, mixture=Mixture(retriever=0.3, uniform=0.2))
    _, rag, seen = trained("pointer", warm_up=warm_up, e_step=step, train_rewriter=False, cross_fitted=True)
    assert {role.partition("-")[0] for _, role in seen.fits} == {"selector", "generator"}
    assert rag.asking is not None
    after = list(rag.asking.rewriter.model.hf.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    drawn = [s for weighted in seen.samples for one in weighted for s in one.samples]
    assert any(s.log_prior != s.log_proposal for s in drawn)


def test_the_warm_up_teaches_to_ask_for_what_is_missing_and_to_stop() -> None:
    hard = Optimisation(learning_rate=1e-2, batch_size=6, epochs=120, schedule="constant")
    warm_up = WarmUp(selector=hard, generator=None, rewriter=hard, teacher="gold")
    _, rag, _ = trained(warm_up=warm_up, iterations=0)
    for question, prediction in zip(far_questions(6), rag.answer_many(far_questions(6)), strict=True):
        path = prediction.selection.path
        assert path is not None
        first, second = path.rounds
        assert first.query == question.question and len(first.permutation) == 1
        asked = question.queries[0] if question.queries else ENOUGH
        assert second.query == asked
        assert bool(second.permutation) == bool(question.queries)
        read = [passage.id for passage in prediction.selected]
        number = question.id[1:]
        assert read[0] == (f"person-{number}" if question.queries else f"firm-{number}")
        if question.queries:
            assert f"firm-{number}" in read[1:] and len(set(read)) == len(read)
        assert prediction.selection.probabilities is not None
        assert len(prediction.selection.probabilities) == len(read)
        assert (
            prediction.task.candidates.passages[: len(first.candidates.passages)] == first.candidates.passages
        )


@pytest.mark.parametrize("kind", ["greedy", "marginal"])
def test_paths_are_the_same_whatever_stands_beside_a_question(kind: AnsweringKind) -> None:
    _, rag, _ = trained(iterations=0)
    how = Answering(kind=kind, samples=5)
    together = rag.answer_many(far_questions(4), answering=how)
    for question, one in zip(far_questions(4), together, strict=True):
        (alone,) = rag.answer_many([question], answering=how)
        assert alone.selection.path is not None and one.selection.path is not None
        assert alone.selection.path.decisions == one.selection.path.decisions
        assert alone.answer == one.answer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": Dpo()}, "objective: dpo: does not go with retrieval.rounds"),
        ({"algorithm": Rrpo()}, "objective: rrpo: does not go with retrieval.rounds"),
        ({"algorithm": Rloo(kl=0.1)}, "objective.kl: does not go with retrieval.rounds"),
        ({"e_step": EStep(samples=3, replay=1)}, "e_step.replay: does not go"),
        ({"warm_up": WarmUp(teacher="fused")}, "warm_up.teacher: fused: does not go"),
        ({"retrieval": Retrieval()}, "rewriter: asks nothing with retrieval.rounds = 1"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trained(**settings)


def test_without_what_asks_it_is_refused() -> None:
    rag = pocket_rag(k=2, n=4)
    for given, missing in (({"rewriter": pocket_rewriter()}, "retriever"), ({}, "rewriter")):
        with pytest.raises(ConfigError, match=f"retrieval.rounds: .* takes a {missing}: pass {missing}="):
            ragdro.train(rag.selector, rag.generator, far_questions(2), retrieval=TWO, **given)  # type: ignore[arg-type]
    blind = pocket_rag(k=2, n=4).selector
    blind.template = load_template("tiny-generator")
    with pytest.raises(ConfigError, match=r"selector.prompt: has no slot \{read\}"):
        Asking(pocket_rewriter(), lambda texts, n: [], TWO, blind)
    asking = Asking(pocket_rewriter(), lambda texts, n: [], TWO, rag.selector)
    with pytest.raises(ConfigError, match="answering: union takes the lists of one retrieval"):
        Rag(rag.selector, rag.generator, asking=asking).answer(
            "who?", passages=["a b", "c d"], answering="union"
        )
