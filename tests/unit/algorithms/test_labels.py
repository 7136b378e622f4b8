"""Rewards and rejected answers against their definitions, one sample at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.evaluation.metrics import exact_match, f1
from ragdro.lm.scoring import SequenceGroup, score_all
from ragdro.system import Rag, reading
from ragdro.training.e_step import e_step
from ragdro.training.loop import Training
from ragdro.training.proposals import proposals
from ragdro.types import Task, WeightedTask
from tests.worlds import pocket_rag, pocket_tasks


def settings(objective: dict[str, object], cross_fitted: bool = False) -> Config:
    role = {"model": "m"}
    values = {"data": {"train": "a", "validation": "b"}, "selector": role, "generator": role}
    return Config.model_validate({**values, "objective": objective, "cross_fitted": cross_fitted})


def under_way(rag: Rag, tasks: list[Task], config: Config) -> Training:
    return Training(rag, algorithm_of(config), config, tasks)


def labelled(training: Training, tasks: list[Task] | None = None) -> list[WeightedTask]:
    return e_step(
        training.system.selector,
        training.system.generator,
        tasks or training.train,
        propose=proposals(training.algorithm, training.settings.e_step, 0, 1),
        max_tokens=9999,
        score=training.held_out_scores,
        label=training.label,
    )


def answering(rag: Rag, count: int) -> list[Task]:
    """Tasks whose gold answer is what this generator says to some readings of them."""
    tasks = []
    for i, task in enumerate(pocket_tasks(count, 5)):
        said = rag.generator.answer_many([reading(task, (i % 5, (i + 1) % 5))], 9999)[0]
        tasks.append(Task(replace(task.question, answers=(said or "x",)), task.candidates))
    return tasks


@pytest.mark.parametrize("metric", ["exact_match", "f1"])
def test_rewards_are_the_greedy_answers_scores(metric: str) -> None:
    rag, config = pocket_rag(), settings({"kind": "rloo", "reward": metric})
    labels = labelled(under_way(rag, answering(rag, 16), config))
    rewards = []
    for weighted in labels:
        for sample in weighted.samples:
            answer = rag.generator.answer_many([reading(weighted.task, sample.permutation)], 9999)[0]
            score = exact_match if metric == "exact_match" else f1
            assert sample.reward == score(answer, weighted.task.question.answers)
            rewards.append(sample.reward)
    assert min(rewards) < max(rewards)


def test_distance_from_the_warmed_up_selector_is_taken_off_the_reward() -> None:
    rag, tasks, config = pocket_rag(), pocket_tasks(3, 5), settings({"kind": "rloo", "kl": 0.3})
    training = under_way(rag, tasks, config)
    with torch.no_grad():
        for parameter in rag.selector.model.hf.parameters():
            parameter.mul_(1.1)
    labels, warm = labelled(training), pocket_rag().selector
    for weighted in labels:
        for s in weighted.samples:
            (now,) = rag.selector.log_prob(weighted.task, [s.permutation], 9999)
            (then,) = warm.log_prob(weighted.task, [s.permutation], 9999)
            assert s.reward == pytest.approx(s.log_likelihood - 0.3 * (now - then), abs=1e-3)
            assert abs(now - then) > 1e-3


@pytest.mark.parametrize("reward", ["log_likelihood", "f1"])
def test_rewards_are_compared_with_the_warmed_up_selectors_greedy_list(reward: str) -> None:
    rag, warm, config = pocket_rag(), pocket_rag(), settings({"kind": "rrpo", "reward": reward})
    drawn, greedy = answering(rag, 16), warm.predict(pocket_tasks(8, 5))
    tasks = [Task(replace(p.task.question, answers=(p.answer or "x",)), p.task.candidates) for p in greedy]
    tasks += drawn[8:]  # the reference's list gives the answer to the first, others to some of these
    training = under_way(rag, tasks, config)
    with torch.no_grad():
        for parameter in rag.selector.model.hf.parameters():
            parameter.copy_(parameter.roll(1, -1))
    now, then = (one.selector.greedy(tasks, 9999) for one in (rag, warm))
    assert any(a.permutation != b.permutation for a, b in zip(now, then, strict=True))

    def worth(task: Task, z: tuple[int, ...]) -> float:
        if reward == "f1":
            return f1(rag.generator.answer_many([reading(task, z)], 9999)[0], task.question.answers)
        alone = SequenceGroup.of([rag.generator.scored(reading(task, z))])
        return score_all(rag.generator.model, [alone], 9999)[0][0]

    rewards = []
    for weighted, selection in zip(labelled(training), then, strict=True):
        baseline = worth(weighted.task, selection.permutation)
        for s in weighted.samples:
            expected = worth(weighted.task, s.permutation) - baseline
            assert s.reward == pytest.approx(expected, abs=1e-3)
            rewards.append(expected)
    assert min(rewards) < 0 < max(rewards)


def test_a_sample_is_kept_where_the_greedy_answer_is_right() -> None:
    rag, config = pocket_rag(), settings({"kind": "rejection", "keep": "right"})
    tasks = answering(rag, 16)
    found = set()
    for weighted in labelled(under_way(rag, tasks, config)):
        for s in weighted.samples:
            answer = rag.generator.answer_many([reading(weighted.task, s.permutation)], 9999)[0]
            assert s.reward == exact_match(answer, weighted.task.question.answers)
            found.add(s.reward)
    assert found == {0.0, 1.0}
    assert not settings({"kind": "rejection"}).objective.needs_labels  # type: ignore[attr-defined]


def test_metric_rewards_come_from_the_fold_that_has_not_seen_the_question() -> None:
    """Its own answers are the gold ones, so that every reward is 1, but where another generator answers."""
    rag, config = pocket_rag(), settings({"kind": "rloo", "reward": "exact_match"}, cross_fitted=True)
    tasks = []
    for w in labelled(under_way(rag, pocket_tasks(4, 5), config)):
        said = rag.generator.answer_many([reading(w.task, s.permutation) for s in w.samples], 9999)
        tasks.append(Task(replace(w.task.question, answers=tuple(said)), w.task.candidates))
    training = under_way(rag, tasks, config)
    for weights in training.snapshots["generator-fold-2"].weights.values():
        weights.zero_()  # it scores questions 0 and 2
    labels = labelled(training)
    assert [{s.reward for s in w.samples} for w in labels] == [{0.0}, {1.0}, {0.0}, {1.0}]


def test_the_references_list_is_scored_by_the_fold_that_scores_the_samples() -> None:
    """One that finds every list equally good leaves nothing to learn."""
    rag, config = pocket_rag(), settings({"kind": "rrpo"}, cross_fitted=True)
    training = under_way(rag, pocket_tasks(4, 5), config)
    for weights in training.snapshots["generator-fold-2"].weights.values():
        weights.zero_()  # it scores questions 0 and 2
    labels = labelled(training)
    nothing = [all(abs(s.reward or 0.0) < 1e-3 for s in w.samples) for w in labels]
    assert nothing == [True, False, True, False]


def test_what_is_rejected_is_the_worst_permutations_answer_where_it_is_wrong() -> None:
    rag, config = pocket_rag(), settings({"kind": "dpo", "generator": "dpo"})
    tasks = pocket_tasks(2, 5)
    training = under_way(rag, tasks, config)
    (first, second) = labelled(training)
    assert first.rejected is not None and second.rejected is not None
    ordered = sorted(first.samples, key=lambda s: s.log_likelihood)
    answer = rag.generator.answer_many([reading(tasks[0], ordered[0].permutation)], 9999)[0]
    assert first.rejected.answer == answer
    best = reading(tasks[0], ordered[-1].permutation)
    assert first.rejected.gold_log_prob == pytest.approx(ordered[-1].log_likelihood, abs=1e-3)
    alone = SequenceGroup.of([rag.generator.scored(best, answer)])
    assert first.rejected.log_prob == pytest.approx(
        score_all(rag.generator.model, [alone], 9999)[0][0], abs=1e-3
    )
    question = replace(tasks[0].question, answers=(tasks[0].question.answers[0], answer))
    (right,) = labelled(training, [Task(question, tasks[0].candidates)])
    assert right.rejected is None
