"""Replay: pooled draws carry the probability of the pool, by definition and against enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ragdro.algorithms import Dro
from ragdro.algorithms.weights import balance, importance_weights, log_ratios
from ragdro.config import Config, EStep, Mixture
from ragdro.lm.snapshot import WeightSnapshot
from ragdro.training.e_step import e_step
from ragdro.training.proposals import log_proposals, proposals
from ragdro.training.replay import Earlier, fresh_lists, pooled
from tests.unit.algorithms.test_weights import draw, model
from tests.worlds import pocket_rag, pocket_tasks


def test_a_pools_probability_by_hand() -> None:
    """A quarter of the pool from the first source, the rest from the second; a third of none."""
    log_q = torch.tensor([[0.5, 0.1], [0.2, 0.4], [0.9, 0.9]], dtype=torch.float64).log()
    probabilities = balance(log_q, torch.tensor([2.0, 6.0, 0.0], dtype=torch.float64)).exp()
    assert probabilities.tolist() == pytest.approx([0.25 * 0.5 + 0.75 * 0.2, 0.25 * 0.1 + 0.75 * 0.4])


def test_a_pool_of_two_selectors_draws_converges_to_the_posterior_of_the_present_one() -> None:
    """And it does not where the earlier draws are taken for the present selector's own."""
    (now, likelihood), then = model(0), model(9)[0]
    z = torch.cat([draw(now, 1, 100_000, seed=1), draw(then, 1, 200_000, seed=2)], dim=1)
    counts = torch.tensor([100_000.0, 200_000.0], dtype=torch.float64)
    pool = balance(torch.stack([now, then]), counts)
    posterior = (now + likelihood).softmax(0)
    worst = []
    for proposal in (pool, now):
        weights = importance_weights(log_ratios(likelihood[z], now[z], proposal[z]))
        estimate = torch.zeros(20, dtype=torch.float64).index_add(0, z[0], weights[0])
        worst.append(float((estimate - posterior).abs().max()))
    assert worst[0] < 0.005 and worst[1] > 0.05


@pytest.mark.parametrize("mixture", [None, Mixture(retriever=0.2, uniform=0.3)])
def test_pooled_draws_are_the_fresh_ones_and_the_earlier_ones_with_the_pools_probability(
    mixture: Mixture | None,
) -> None:
    rag, tasks, settings = pocket_rag(), pocket_tasks(3, 5), EStep(samples=4, mixture=mixture)
    then = pocket_rag(seed=4).selector
    variant = WeightSnapshot("earlier", rag.selector.model)
    variant.weights = {k: p.detach().clone() for k, p in then.model.hf.named_parameters()}
    never = Earlier(WeightSnapshot("never", rag.selector.model))
    memory = Earlier(variant, {"q0": [(0, 1), (3, 2), (3, 2)], "q2": [(4, 1)]})
    propose = proposals(Dro(), settings, 0, 1)
    plain = propose(rag.selector, tasks)
    draws = pooled(propose, [memory, never], settings)(rag.selector, tasks)
    assert draws[1] == plain[1]
    for i, count in ((0, 3), (2, 1)):
        lists = [d.permutation for d in draws[i]]
        assert lists == [*(d.permutation for d in plain[i]), *memory.lists[f"q{i}"]]
        q = [
            np.array(log_proposals(s, tasks[i], lists, s.log_prob(tasks[i], lists, 9999), mixture))
            for s in (rag.selector, then)
        ]
        expected = np.logaddexp(q[0] + np.log(4 / (4 + count)), q[1] + np.log(count / (4 + count)))
        assert [d.log_proposal for d in draws[i]] == pytest.approx(expected.tolist(), abs=1e-3)
        priors = rag.selector.log_prob(tasks[i], lists, 9999)
        assert [d.log_prior for d in draws[i]] == pytest.approx(priors, abs=1e-3)
    weighted = e_step(
        rag.selector,
        rag.generator,
        tasks,
        propose=pooled(propose, [memory], settings),
        max_tokens=9999,
    )
    assert fresh_lists(weighted, 4)["q0"] == [d.permutation for d in plain[0]]
    assert [len(w.drawn) for w in weighted] == [7, 4, 5]


@pytest.mark.parametrize(
    ("objective", "step"),
    [("rloo", {}), ("dro-centered", {}), ("marginal", {}), ("sft", {}), ("dro", {"temperature": 0.7})],
)
def test_replay_is_refused_where_it_cannot_be_corrected_for(objective: str, step: dict[str, object]) -> None:
    role = {"model": "m"}
    values = {"data": {"train": "a", "validation": "b"}, "selector": role, "generator": role}
    with pytest.raises(ValidationError, match=r"replay|selector itself"):
        Config.model_validate({**values, "objective": objective, "e_step": {"replay": 1, **step}})
