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
