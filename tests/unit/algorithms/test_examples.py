"""What each objective fits the two models to, against its formula written out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from ragdro.algorithms import Algorithm, Dpo, Dro, DroCentered, DroTempered, Rejection, Rloo, Rrpo
from ragdro.config import Config
from ragdro.system import reading
from ragdro.types import RejectedAnswer, WeightedSample, WeightedTask
from tests.worlds import pocket_rag, pocket_tasks

SAMPLES = (
    WeightedSample((0, 1), 2, -1.0, -1.0, -2.0, 0.5),
    WeightedSample((2, 3), 1, -2.0, -2.0, -1.0, 0.4),
    WeightedSample((4, 0), 1, -3.0, -3.0, -6.0, 0.1),
)
"""Four draws, the first of them twice."""


def losses(objective: Algorithm, log_probs: list[float]) -> tuple[float, list[float], list[tuple[int, ...]]]:
    """The selector's loss at `log_probs`, its gradient, and the permutations it is about."""
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    target = objective.selector_example(rag.selector, WeightedTask(task, SAMPLES, 0.0, 0.0, False))
    values = torch.tensor(log_probs, requires_grad=True)
    loss = target.loss(torch.tensor(target.weights), values)
    loss.backward()
    assert values.grad is not None
    known = {tuple(rag.selector.scored(task, s.permutation).tokens): s.permutation for s in SAMPLES}
    about = [known[tuple(s.tokens)] for s in target.group.sequences]
    return float(loss.detach()), values.grad.tolist(), about


def generator_weights(objective: Algorithm) -> list[float]:
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    target = objective.generator_example(rag.generator, WeightedTask(task, SAMPLES, 0.0, 0.0, False))
    assert len(target.group.sequences) == len(target.weights)
    return list(target.weights)


def test_dro_follows_the_weights() -> None:
    loss, gradient, about = losses(Dro(), [-1.5, -2.5, -3.5])
    assert loss == pytest.approx(0.5 * 1.5 + 0.4 * 2.5 + 0.1 * 3.5)
    assert gradient == pytest.approx([-0.5, -0.4, -0.1])
    assert about == [s.permutation for s in SAMPLES]
    assert generator_weights(Dro()) == [0.5, 0.4, 0.1]


def test_centred_takes_each_draws_share_off() -> None:
    """Two of four draws were the first list: its 0.5 is no more than its share, so it is not pulled."""
    _, gradient, _ = losses(DroCentered(), [-1.0, -2.0, -3.0])
    assert gradient == pytest.approx([0.0, -0.15, 0.15], abs=1e-6)
    _, moved, _ = losses(DroCentered(clip=0.2), [-1.0, -1.7, -3.3])
    assert moved == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert generator_weights(DroCentered()) == [0.5, 0.4, 0.1]


def test_leave_one_out_by_hand() -> None:
    """Rewards -2, -2, -1, -6: mean -2.75; each draw gets (r - mean) / 3."""
    _, gradient, _ = losses(Rloo(), [-1.0, -2.0, -3.0])
    assert gradient == pytest.approx([-2 * 0.75 / 3, -1.75 / 3, 3.25 / 3], abs=1e-6)
    assert generator_weights(Rloo()) == [0.5, 0.25, 0.25]


def test_a_reference_is_the_baseline_by_hand() -> None:
    """Rewards less the reference's: 0.5, 0.5, -1, 3; each draw gets a quarter of its own, whatever the others
    have. All may be better than the reference: there is nothing to sum to."""
    compared = tuple(replace(s, reward=r) for s, r in zip(SAMPLES, (0.5, -1.0, 3.0), strict=True))
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    target = Rrpo().selector_example(rag.selector, WeightedTask(task, compared, 0.0, 0.0, False))
    assert target.weights == pytest.approx((2 * 0.5 / 4, -1.0 / 4, 3.0 / 4))
    values = torch.tensor([-1.0, -2.0, -2.0], requires_grad=True)  # the last is likelier than when drawn
    target.loss(torch.tensor(target.weights), values).backward()
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([-0.25, 0.25, 0.0], abs=1e-6)
    assert generator_weights(Rrpo()) == [0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("right", "best", "weight"),
    [
        ((None, None, None), (2, 3), 1.0),  # nobody asked whether the answer is right
        ((1.0, 1.0, 1.0), (2, 3), 1.0),
        ((1.0, 0.0, 1.0), (0, 1), 1.0),
        ((0.0, 0.0, 1.0), (4, 0), 1.0),
        ((0.0, 0.0, 0.0), (2, 3), 0.0),
    ],
)
def test_the_likeliest_sample_that_is_accepted_is_all_that_is_learned(
    right: tuple[float | None, ...], best: tuple[int, int], weight: float
) -> None:
    judged = tuple(replace(s, reward=r) for s, r in zip(SAMPLES, right, strict=True))
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    weighted = WeightedTask(task, judged, 0.0, 0.0, False)
    chosen = Rejection().selector_example(rag.selector, weighted)
    (list_learned,) = chosen.group.sequences
    assert list_learned.tokens.tolist() == rag.selector.scored(task, best).tokens.tolist()
    read = Rejection().generator_example(rag.generator, weighted)
    (answer_learned,) = read.group.sequences
    assert answer_learned.tokens.tolist() == rag.generator.scored(reading(task, best)).tokens.tolist()
    for target in (chosen, read):
        assert float(target.loss(torch.tensor(target.weights), torch.tensor([-7.0]))) == 7 * weight


def test_preference_is_best_against_worst() -> None:
    loss, gradient, about = losses(Dpo(beta=0.5), [-1.0, -4.0])
    assert about == [(2, 3), (4, 0)]
    margin = 0.5 * ((-1.0 + 2.0) - (-4.0 + 3.0))
    assert loss == pytest.approx(math.log1p(math.exp(-margin)))
    assert gradient == pytest.approx([-0.5 / (1 + math.exp(margin)), 0.5 / (1 + math.exp(margin))])
    assert generator_weights(Dpo()) == [1.0]


def test_rewards_are_compared_in_place_of_likelihoods() -> None:
    """1, 1, 0, 0 for four draws: mean 0.5; each draw gets (r - mean) / 3."""
    rewarded = tuple(replace(s, reward=r) for s, r in zip(SAMPLES, (1.0, 0.0, 0.0), strict=True))
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    target = Rloo().selector_example(rag.selector, WeightedTask(task, rewarded, 0.0, 0.0, False))
    assert target.weights == pytest.approx((1 / 3, -0.5 / 3, -0.5 / 3))


def test_the_generators_preference_is_gold_against_its_own_wrong_answer() -> None:
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    objective = Dpo(beta=0.5, generator="dpo")
    weighted = WeightedTask(task, SAMPLES, 0.0, 0.0, False, (), RejectedAnswer("Firm0", -3.0, -1.0))
    target = objective.generator_example(rag.generator, weighted)
    best = reading(task, (2, 3))
    gold, own = (rag.generator.scored(best, a).tokens.tolist() for a in ("Freedonia", "Firm0"))
    assert [s.tokens.tolist() for s in target.group.sequences] == [gold, own] and gold != own
    values = torch.tensor([-0.5, -4.0], requires_grad=True)
    loss = target.loss(torch.tensor(target.weights), values)
    margin = 0.5 * ((-0.5 + 1.0) - (-4.0 + 3.0))
    assert float(loss.detach()) == pytest.approx(math.log1p(math.exp(-margin)))
    nothing = objective.generator_example(rag.generator, replace(weighted, rejected=None))
    assert nothing.weights == (0.0,)


def test_without_a_difference_there_is_no_preference() -> None:
    rag, (task,) = pocket_rag(k=2, n=5), pocket_tasks(1, 5)
    same = WeightedTask(task, SAMPLES[:1], 0.0, 1.0, False)
    target = Dpo().selector_example(rag.selector, same)
    assert float(target.loss(torch.tensor(target.weights), torch.tensor([-7.0]))) == 0


def test_tempering_is_the_e_steps() -> None:
    ratios = torch.tensor([[0.0, -20.0, -20.0, -20.0]], dtype=torch.float64)
    assert float(DroTempered(floor=2.0).weights(ratios).square().sum()) == pytest.approx(0.5)
    assert float(Dro().weights(ratios).square().sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["dro-centered", "rloo", "rrpo"])
@pytest.mark.parametrize("elsewhere", [{"temperature": 0.7}, {"mixture": {}}])
def test_advantages_are_refused_off_policy(kind: str, elsewhere: dict[str, object]) -> None:
    """Their mean is zero under the selector's own distribution only."""
    role = {"model": "m"}
    values = {
        "data": {"train": "a", "validation": "b"},
        "selector": role,
        "generator": role,
        "objective": kind,
    }
    assert Config.model_validate(values).objective.kind == kind
    with pytest.raises(ValidationError, match="samples of the selector itself"):
        Config.model_validate({**values, "e_step": elsewhere})


@pytest.mark.parametrize("floor", [4.0, 5.0])
def test_a_floor_of_all_samples_is_refused(floor: float) -> None:
    role = {"model": "m"}
    values = {"data": {"train": "a", "validation": "b"}, "selector": role, "generator": role}
    tempered = {"kind": "dro-tempered", "floor": floor}
    with pytest.raises(ValidationError, match=r"objective\.floor: .* less than e_step\.samples"):
        Config.model_validate({**values, "objective": tempered, "e_step": {"samples": 4}})
    kept = Config.model_validate({**values, "objective": tempered, "e_step": {"samples": 6}})
    assert kept.objective.kind == "dro-tempered"
