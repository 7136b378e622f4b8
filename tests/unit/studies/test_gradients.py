"""The variances of gradient estimates, against estimates that are made one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ragdro.config import load_config
from ragdro.evaluation.significance import Interval
from ragdro.lm.scoring import sequence_log_probs
from ragdro.studies import gradients
from ragdro.studies.gradients import spread, trace_of_covariance
from ragdro.studies.variance import VARIANCE
from ragdro.system import reading
from ragdro.types import Candidates, Task
from tests.unit.studies.folders import CONFIG, run
from tests.worlds import pocket_rag, pocket_tasks


def test_the_trace_is_that_of_the_covariance_matrix() -> None:
    rng = np.random.default_rng(0)
    shares, vectors = rng.random((7, 4)), rng.normal(size=(4, 9))
    direct = np.trace(np.cov((shares @ vectors).T))
    gram = torch.from_numpy(vectors @ vectors.T)
    assert trace_of_covariance(torch.from_numpy(shares), gram) == pytest.approx(direct)


def test_variances_are_those_of_estimates_made_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "DRAWS", 8)
    monkeypatch.setattr(gradients, "SAMPLES", (1, 4))
    rag, (task,) = pocket_rag(), pocket_tasks(1, 5)
    config = load_config(CONFIG)
    variances = spread(rag, config, task)[4]
    settings = gradients.EStep(samples=8)
    (draws,) = gradients.proposals(config.objective, settings, config.seed, gradients._STREAM)(
        rag.selector, [task]
    )
    assert len({d.permutation for d in draws}) > 2
    weighted, uniform, likelihoods = [], [], []
    for part in (draws[:4], draws[4:]):
        model = rag.generator.model
        group = rag.generator.group([reading(task, d.permutation) for d in part])
        with torch.no_grad():
            scores = sequence_log_probs(model, [group])[0].double()
        likelihoods.append(float(scores.exp().mean()))
        for weights, kept in ((scores.softmax(0), weighted), (torch.full((4,), 0.25), uniform)):
            model.hf.zero_grad()
            (weights * sequence_log_probs(model, [group])[0]).sum().backward()
            kept.append(torch.cat([p.grad.flatten() for p in model.hf.parameters()]).double())
    for estimates, key in ((weighted, "generator_weighted"), (uniform, "generator_uniform")):
        by_hand = float((estimates[0] - estimates[1]).square().sum()) / 2
        assert variances[key] == pytest.approx(by_hand, rel=1e-3)
    assert variances["likelihood"] == pytest.approx((likelihoods[0] - likelihoods[1]) ** 2 / 2, rel=1e-3)


def test_lists_are_read_in_the_generators_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two candidates there are two lists, which read alike by the retriever's rank: nothing varies."""
    monkeypatch.setattr(gradients, "DRAWS", 8)
    monkeypatch.setattr(gradients, "SAMPLES", (1,))
    rag, (task,) = pocket_rag(), pocket_tasks(1, 5)
    two = Task(task.question, Candidates(task.question.id, task.candidates.passages[:2]))
    assert spread(rag, load_config(CONFIG), two)[1]["likelihood"] > 0
    rag.generator.order = "retriever"
    assert spread(rag, load_config(CONFIG), two)[1]["likelihood"] == 0


def test_the_claim_is_judged_by_what_was_measured(tmp_path: Path) -> None:
    def row(m: int, weighted: float) -> dict[str, object]:
        values = {
            f"{role}_{kind}": value
            for role in ("selector", "generator")
            for kind, value in (("weighted", weighted), ("uniform", 1.0), ("raised", float(weighted > 1)))
        }
        where = {"iteration": 1, "split": "training", "m": m}
        return {**where, "likelihood": 0.1, "selector_centered": 0.5, **values}

    for i, (weighted, said) in enumerate([(2.0, "does not hold"), (0.5, "is not contradicted")]):
        finished = run(tmp_path / f"run-{i}", [0.3, 0.4], measured=[row(1, 9.0), row(2, weighted)])
        outcome = VARIANCE.conclude({"trained": {0: finished}})
        assert all(said in finding for finding in outcome.findings) and len(outcome.findings) == 2
        assert outcome.tables["Variances"].rows[1][:4] == ("training", 1, 2, 0.1)
        ((place, ratio),) = outcome.panels[1].series[0].points
        assert place == 2.0 and ratio == pytest.approx(weighted)
    seeds = {
        seed: run(tmp_path / f"seed-{seed}", [0.3, 0.4], measured=[row(2, weighted)])
        for seed, weighted in enumerate((2.0, 8.0))
    }
    ((_, over_seeds),) = VARIANCE.conclude({"trained": seeds}).panels[2].series[0].points
    assert isinstance(over_seeds, Interval) and over_seeds.mean == pytest.approx(4.0)
    assert over_seeds.low * over_seeds.high == pytest.approx(16.0)
