"""Diagnostics against hand calculation, enumeration of 20 lists, and models that were moved."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

import ragdro
import ragdro.runs.load
from ragdro.algorithms import Dro
from ragdro.algorithms import warnings as alarms
from ragdro.config import EStep
from ragdro.runs.setup import set_up
from ragdro.training import diagnostics, evaluate
from ragdro.training.diagnostics import divergence, entropy, weight_entropy, weight_variance
from ragdro.training.e_step import e_step
from ragdro.training.proposals import proposals
from ragdro.types import Candidates, QuestionPath, Round, Thought, WeightedSample, WeightedTask
from tests.pipeline.test_train import write_config
from tests.unit.algorithms.test_weights import draw, model
from tests.worlds import pocket_rag, pocket_tasks


def test_entropy_and_variance_of_weights_by_hand() -> None:
    weights = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], dtype=torch.float64)
    assert weight_entropy(weights).tolist() == pytest.approx([math.log(4), 0, math.log(2)])
    assert weight_variance(weights).tolist() == pytest.approx([0, 3 / 16, 1 / 16])


@pytest.mark.parametrize("own", [True, False])
def test_entropy_and_divergence_converge_to_the_sums_over_all_lists(own: bool) -> None:
    then, now = model(1)[0], model(2)[0]
    proposal = then if own else (0.5 * then).log_softmax(0)
    z = draw(proposal, 1, 400_000, seed=0)
    assert float(entropy(then[z], proposal[z])) == pytest.approx(float(-(then.exp() @ then)), abs=0.01)
    exact = float(then.exp() @ (then - now))
    assert float(divergence(then[z], now[z], proposal[z])) == pytest.approx(exact, abs=0.02)


def test_divergence_is_exact_where_every_list_is_there_once_and_never_negative() -> None:
    then, now = model(1)[0][None], model(2)[0][None]
    level = torch.full_like(then, -math.log(20))
    assert float(divergence(then, now, level)) == pytest.approx(float((then.exp() * (then - now)).sum()))
    z = draw(then[0], 500, 2, seed=3)
    divergences = divergence(then[0][z], now[0][z], then[0][z])
    assert divergences.min() >= 0
    assert float(divergence(then, then, level)) == 0


def test_figures_of_the_first_draws_are_those_of_an_e_step_that_drew_no_more() -> None:
    rag, tasks = pocket_rag(), pocket_tasks(3, 5)

    def sampled(m: int) -> list[WeightedTask]:
        propose = proposals(Dro(), EStep(samples=m), 0, 1)
        return e_step(rag.selector, rag.generator, tasks, propose=propose, max_tokens=9999)

    few, many = sampled(4), sampled(32)
    metrics = diagnostics.sample_metrics(few)
    assert diagnostics.sample_metrics(many, 4) == pytest.approx(metrics, abs=1e-4)
    assert metrics["bound"] == pytest.approx(np.mean([w.bound for w in few]))
    assert metrics["effective_sample_size"] == pytest.approx(np.mean([w.effective_sample_size for w in few]))
    assert diagnostics.sample_metrics(many)["bound"] != pytest.approx(metrics["bound"], abs=1e-3)


def test_figures_count_every_draw() -> None:
    """Three draws, the first list twice."""
    twice = WeightedSample((0, 1), 2, -1.0, -1.0, -2.0, 0.5)
    once = WeightedSample((2, 3), 1, -4.0, -4.0, -2.0, 0.5)
    weighted = WeightedTask(pocket_tasks(1, 5)[0], (once, twice), 0.0, 0.0, False, (1, 0, 1))
    metrics = diagnostics.sample_metrics([weighted])
    assert metrics["distinct_fraction"] == pytest.approx(2 / 3)
    assert metrics["selector_entropy"] == pytest.approx(2)
    assert metrics["effective_sample_size"] == pytest.approx(3) and metrics["bound"] == pytest.approx(-2)


def test_lists_are_distinct_whatever_was_thought_about_them() -> None:
    """Three thoughts about one list are one list, so that a selector that always draws it is seen."""
    samples = tuple(
        WeightedSample((0, 1), 1, 0.0, 0.0, -2.0, 1 / 3, thought=Thought("", (token,), -1.0, -1.0))
        for token in range(3)
    )
    weighted = WeightedTask(pocket_tasks(1, 5)[0], samples, 0.0, 0.0, False, (0, 1, 2))
    assert diagnostics.sample_metrics([weighted])["distinct_fraction"] == pytest.approx(1 / 3)
    asked = [QuestionPath((Round("q", (token,), Candidates("q", ())),)) for token in (5, 6)]
    paths = tuple(replace(s, path=path) for s, path in zip(samples, [*asked, asked[0]], strict=True))
    other = replace(weighted, samples=paths)  # which query was asked is a decision, what was thought is none
    assert diagnostics.sample_metrics([other])["distinct_fraction"] == pytest.approx(2 / 3)


def test_overlap_is_what_a_passage_of_one_list_has_of_the_others() -> None:
    """By hand: passage 0 of the first list is in one of the two others, 1 in both, and so on."""
    lists = [(0, 1), (0, 1), (1, 2)]
    by_hand = [0.5, 1.0, 0.5, 1.0, 1.0, 0.0]
    assert diagnostics.overlap(lists) == pytest.approx(np.mean(by_hand))
    assert diagnostics.overlap([(3, 1), (1, 3), (3, 1)]) == 1  # an order is no difference
    assert diagnostics.overlap([(0, 1), (2, 3)]) == 0
    assert diagnostics.overlap([(), ()]) == 1  # nothing was found to read
    assert diagnostics.overlap([(0,), (0, 1, 2)]) == pytest.approx(0.5)  # 1 of 1, and 1 of 3: 2 of 4
    assert np.isnan(diagnostics.overlap([(0, 1)]))
    twice = WeightedSample((0, 1), 2, -1.0, -1.0, -2.0, 0.5)
    once = WeightedSample((1, 2), 1, -4.0, -4.0, -2.0, 0.5)
    weighted = WeightedTask(pocket_tasks(1, 5)[0], (once, twice), 0.0, 0.0, False, (1, 0, 1))
    assert diagnostics.sample_metrics([weighted])["overlap"] == pytest.approx(np.mean(by_hand))


def test_a_selector_or_a_weight_that_collapses_is_reported_with_a_remedy() -> None:
    sound = {"effective_sample_size": 3.0, "selector_entropy": 1.0}
    assert not alarms.warnings(sound, 8)
    messages = alarms.warnings({"effective_sample_size": 1.4, "selector_entropy": 0.01}, 8)
    assert (
        "1.400 of 8" in messages["effective_sample_size"]
        and "dro-tempered" in messages["effective_sample_size"]
    )
    assert "0.010 nats" in messages["selector_entropy"] and "dro-centered" in messages["selector_entropy"]
    assert not alarms.warnings({"effective_sample_size": 1.0, "selector_entropy": 0.0}, 1)


@pytest.mark.slow
def test_a_run_measures_how_far_the_selector_moved_and_warns_once_an_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(alarms, "LEAST_EFFECTIVE", 99.0)
    overrides = ["evaluation.tight_samples=500", "evaluation.samples=400", "checkpoints.keep=all"]
    ragdro.run(ragdro.load_config(write_config(tmp_path), overrides))
    run = tmp_path / "runs/run"
    records = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    measured = [r for r in records if r["event"] == "evaluation"]
    assert [r["stage"] for r in measured] == ["warm_up", "iteration-1", "iteration-2"]
    assert measured[0]["kl_to_previous"] is None and measured[2]["kl_to_previous"] > 0
    assert all(r["tight_bound"] != r["bound"] for r in measured)
    warnings = [r for r in records if r["event"] == "warning"]
    assert [(r["stage"], r["metric"]) for r in warnings] == [
        ("iteration-1", "effective_sample_size"),
        ("iteration-2", "effective_sample_size"),
    ]
    assert capfd.readouterr().err.count("the effective sample size is") == 2
    before, after = (ragdro.load(run, stage=f"iteration-{i}").selector for i in (0, 1))
    lists = list(permutations(range(6), 3))
    tasks = ragdro.runs.load.reported_tasks(run)
    exact = 0.0
    for task in tasks:
        p, q = (np.array(s.log_prob(task, lists, 99_999)) for s in (before, after))
        exact += float(np.exp(p) @ (p - q)) / len(tasks)
    assert measured[1]["kl_to_previous"] == pytest.approx(exact, rel=0.25)


def test_the_tight_bound_is_of_questions_from_all_of_the_file(tmp_path: Path) -> None:
    """A sorted file's first questions would be of one kind: those taken reach from its start to its end."""
    few = ["evaluation.tight_questions=2", "evaluation.tight_samples=3", "evaluation.samples=3"]
    every = ["evaluation.tight_questions=99", "evaluation.tight_samples=3", "evaluation.samples=3"]
    path = write_config(tmp_path)
    two, whole = ragdro.load_config(path, few), ragdro.load_config(path, every)
    setup = set_up(two)
    tasks = setup.train
    assert len(tasks) == 4
    drawn = evaluate.draw(setup.rag, Dro(), two.evaluation, two.seed, tasks)
    alone = [drawn.weighted[0], drawn.weighted[2]]
    of_few = evaluate.sampled_metrics(drawn.weighted, Dro(), two.evaluation)
    of_all = evaluate.sampled_metrics(drawn.weighted, Dro(), whole.evaluation)
    assert of_few["tight_bound"] == diagnostics.sample_metrics(alone, 3)["bound"]
    assert of_all["tight_bound"] == of_all["bound"] == of_few["bound"]
    assert [w.task for w in drawn.weighted] == list(tasks)
