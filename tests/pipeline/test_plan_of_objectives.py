"""`ragdro plan` against what the E-step and the fits of an objective compute, counted by a profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ragdro.algorithms.base import algorithm_of
from ragdro.config import Config
from ragdro.lm.model import LanguageModel
from ragdro.planning.plan import plan
from ragdro.planning.stand_in import longest_tasks, stand_in
from ragdro.profiling import Profile, profiled
from ragdro.training.cross_fit import fit_folds, folds_of
from ragdro.training.e_step import e_step
from ragdro.training.m_step import FitObserver, fit
from ragdro.training.proposals import proposals
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
