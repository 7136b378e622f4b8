"""The E-step of real (small, random) models against its definition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ragdro.algorithms import Dro
from ragdro.config import EStep
from ragdro.errors import TrainingError
from ragdro.generation.generator import Generator
from ragdro.lm.scoring import score_all
from ragdro.system import Rag, reading
from ragdro.training.e_step import Scores, e_step
from ragdro.training.proposals import proposals
from ragdro.types import Draw, Task, WeightedTask
from tests.worlds import pocket_rag, pocket_tasks


def run(
    questions: int = 4,
    samples: int = 8,
    temperature: float = 1.0,
    order: slice = slice(None),
    k: int = 2,
    **settings: object,
) -> tuple[Rag, list[WeightedTask]]:
    rag = pocket_rag(k=k)
    tasks = pocket_tasks(questions, 5)[order]
    weighted = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=proposals(Dro(), EStep(samples=samples, temperature=temperature, **settings), 3, 1),
        max_tokens=2000,
    )
    return rag, weighted


def by_definition(rag: Rag, weighted: WeightedTask) -> dict[tuple[int, ...], float]:
    """w_z ~ count(z) p(y|x,d_z) p(z)/q(z), each factor computed on its own, one permutation at a time."""
    raw = {}
    for s in weighted.samples:
        alone = rag.generator.group([reading(weighted.task, s.permutation)])
        likelihood = score_all(rag.generator.model, [alone], 10_000)[0][0]
        prior = rag.selector.log_prob(weighted.task, [s.permutation], 10_000)[0]
        raw[s.permutation] = s.count * np.exp(likelihood + prior - s.log_proposal)
    total = sum(raw.values())
    return {z: value / total for z, value in raw.items()}


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.6}, {"mixture": {"retriever": 0.3, "uniform": 0.3}}]
)
def test_weights_are_what_the_definition_says(settings: dict[str, object]) -> None:
    rag, weighted_tasks = run(**settings)  # type: ignore[arg-type]
    for weighted in weighted_tasks:
        expected = by_definition(rag, weighted)
        assert {s.permutation: s.weight for s in weighted.samples} == pytest.approx(expected, rel=1e-3)
        assert sum(s.weight for s in weighted.samples) == pytest.approx(1)
        assert sum(s.count for s in weighted.samples) == 8


def test_duplicates_keep_their_multiplicity_and_are_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    group = Generator.group
    monkeypatch.setattr(Generator, "group", lambda self, rs: (sizes.append(len(rs)), group(self, rs))[1])
    _, weighted_tasks = run(questions=2, samples=64, k=1)
    assert any(s.count > 1 for w in weighted_tasks for s in w.samples)
    assert sizes == [len(w.samples) for w in weighted_tasks] and max(sizes) <= 5
    for weighted in weighted_tasks:
        by_sample = np.array([s.weight / s.count for s in weighted.samples for _ in range(s.count)])
        assert weighted.effective_sample_size == pytest.approx(1 / (by_sample**2).sum(), rel=1e-6)


def test_all_orders_of_a_set_are_one_reading_where_passages_are_read_by_rank() -> None:
    """Against sums over the orders of each set, one permutation at a time."""
    rag = pocket_rag()
    rag.generator.order = "retriever"
    propose = proposals(Dro(), EStep(samples=64), 3, 1)
    (weighted,) = e_step(rag.selector, rag.generator, pocket_tasks(1, 5), propose=propose, max_tokens=9999)
    by_set: dict[frozenset[int], float] = {}
    for s in weighted.samples:
        alone = rag.generator.group([reading(weighted.task, tuple(sorted(s.permutation)))])
        likelihood = score_all(rag.generator.model, [alone], 10_000)[0][0]
        assert s.log_likelihood == pytest.approx(likelihood, abs=1e-4)
        read = frozenset(s.permutation)
        by_set[read] = by_set.get(read, 0) + s.count * np.exp(likelihood)
    assert len(by_set) < len(weighted.samples)  # some set was drawn in both orders
    target = Dro().generator_example(rag.generator, weighted)
    assert len(target.weights) == len(by_set)
    total = sum(by_set.values())
    assert sorted(target.weights) == pytest.approx(sorted(v / total for v in by_set.values()), rel=1e-3)


def test_a_questions_samples_do_not_depend_on_its_neighbours() -> None:
    _, together = run(questions=4)
    _, backwards = run(questions=4, order=slice(None, None, -1))
    for a, b in zip(together, reversed(backwards), strict=True):
        assert Counter({s.permutation: s.count for s in a.samples}) == {
            s.permutation: s.count for s in b.samples
        }
        assert a.bound == pytest.approx(b.bound, abs=1e-4)


def test_a_likelihood_that_is_no_number_stops_the_run_and_names_the_question() -> None:
    rag = pocket_rag()

    def score(generator: Generator, tasks: list[Task], draws: list[list[Draw]], max_tokens: int) -> Scores:
        return [[float("nan")] * len(drawn) for drawn in draws]

    propose = proposals(Dro(), EStep(samples=3), 3, 1)
    with pytest.raises(TrainingError, match=r"question 'q0'.*not a number"):
        e_step(rag.selector, rag.generator, pocket_tasks(2, 5), propose=propose, max_tokens=999, score=score)
