"""`ragdro plan` against what the E-step and the fits of an objective compute, counted by a profile."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from ragdro.algorithms.base import Labeller, algorithm_of
from ragdro.config import Config
from ragdro.lm.model import LanguageModel
from ragdro.planning.plan import plan
from ragdro.planning.stand_in import longest_tasks, stand_in, unlike_lists
from ragdro.profiling import Profile, profiled
from ragdro.training.cross_fit import fit_folds, folds_of
from ragdro.training.e_step import e_step
from ragdro.training.m_step import FitObserver, fit
from ragdro.training.proposals import proposals
from ragdro.types import Draw
from tests.pipeline.test_plan import CPU, pocket

QUESTIONS = 8


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "sft"},
        {"objective": "marginal"},
        {"objective": {"kind": "marginal", "passages": 3}},
        {"objective": "sft", "cross_fitted": True},
    ],
)
def test_tokens_are_those_that_an_objective_without_drawn_lists_reads(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = pocket("full", **changes).model_dump(mode="json")
    values["m_step"]["generator"]["epochs"] = 2
    config = Config.model_validate(values)
    planned, algorithm = plan(config, QUESTIONS, CPU)["phases"], algorithm_of(config)
    selector, generator, _ = stand_in(config, CPU, {"selector": 6, "generator": 6})
    tasks, budget = longest_tasks(config, QUESTIONS), config.e_step.max_tokens_per_micro_batch
    with profiled(Profile(1.0)) as profile:
        propose = proposals(algorithm, config.e_step, 0, 1)
        weighted = e_step(selector, generator, tasks, propose=propose, max_tokens=budget)
    scored = profile.tokens.pop("score")
    assert planned["scoring"]["tokens"] == pytest.approx(scored, rel=0.01)
    assert planned["sampling"]["tokens"] == pytest.approx(sum(profile.tokens.values()), rel=0.01)
    examples = [algorithm.generator_example(generator, one) for one in weighted]
    folds = folds_of(generator.model, tasks) if config.cross_fitted else []
    monkeypatch.setattr(LanguageModel, "recheck", lambda model: None)  # a few tokens more behind each fit
    with profiled(Profile(1.0)) as profile:
        fit(
            generator.model,
            QUESTIONS,
            examples.__getitem__,
            config.m_step.generator,
            np.random.default_rng(0),
        )
        fit_folds(folds, tasks, [examples.__getitem__], config, 1, lambda name: FitObserver())
    assert planned["generator update"]["tokens"] == pytest.approx(sum(profile.tokens.values()), rel=0.01)
    assert planned["generator update"]["flops"] == pytest.approx(sum(profile.flops.values()), rel=0.02)


@pytest.mark.parametrize(
    ("objective", "reads"),
    [
        ({"kind": "rrpo"}, {"sampling", "scoring"}),
        ({"kind": "rrpo", "kl": 0.1, "reward": "f1"}, {"sampling", "scoring"}),
        ({"kind": "rloo", "kl": 0.1}, {"sampling"}),
        ({"kind": "rloo", "reward": "exact_match"}, {"scoring"}),
        ({"kind": "rejection", "keep": "right"}, {"scoring"}),
        ({"kind": "dpo", "generator": "dpo"}, {"scoring"}),
        ({"kind": "rloo"}, set[str]()),
    ],
)
def test_what_an_objective_reads_to_label_its_samples_is_planned(
    objective: dict[str, Any], reads: set[str]
) -> None:
    config = pocket("full", objective=objective)
    algorithm, budget = algorithm_of(config), config.e_step.max_tokens_per_micro_batch
    planned, bare = (plan(one, QUESTIONS, CPU)["phases"] for one in (config, pocket("full")))
    more = {name: planned[name]["tokens"] - bare[name]["tokens"] for name in ("sampling", "scoring")}
    assert {name for name, tokens in more.items() if tokens} == reads
    assert {name for name in more if planned[name]["flops"] > bare[name]["flops"]} == reads
    assert all(planned[name]["memory"] == bare[name]["memory"] for name in planned)
    selector, generator, _ = stand_in(config, CPU, {"selector": 6, "generator": 6})
    drawn = [[Draw(z, 0.0, 0.0) for z in lists] for lists in unlike_lists(config, QUESTIONS)]
    tasks = longest_tasks(config, QUESTIONS)
    weighted = e_step(selector, generator, tasks, propose=lambda s, t: drawn, max_tokens=budget)
    labeller = Labeller(
        selector, generator, budget, lambda tasks, score: list(score(range(len(tasks)))), nullcontext
    )
    with profiled(Profile(1.0)) as profile:
        assert algorithm.needs_labels == bool(reads)
        algorithm.label(weighted, labeller)
    assert sum(more.values()) == pytest.approx(sum(profile.tokens.values()), rel=0.05)
