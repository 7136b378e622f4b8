"""`ragdro plan` of a generator that thinks, against what is measured: real tensors, the profile's counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ragdro.config import Config
from ragdro.generation.reading import Reading
from ragdro.lm.groups import log_probs
from ragdro.planning.live import most_bytes
from ragdro.planning.plan import plan
from ragdro.planning.stand_in import longest_tasks, longest_thought, stand_in, unlike_lists
from ragdro.profiling import Profile, profiled
from tests.pipeline.test_plan import CPU, pocket

THINK, QUESTIONS = 40, 4


def thinking() -> Config:
    values = pocket("full", e_step={"samples": 3}).model_dump(mode="json")
    values["generator"].update(think=THINK, prompt="thinking")
    return Config.model_validate(values)


def test_thoughts_are_planned_in_the_e_step_and_in_the_update() -> None:
    config = thinking()
    phases = plan(config, QUESTIONS, CPU)["phases"]
    before = plan(pocket("full", e_step={"samples": 3}), QUESTIONS, CPU)["phases"]
    assert list(phases) == ["sampling", "thinking", "scoring", "selector update", "generator update"]
    assert "thinking" not in before
    _, generator, *_ = stand_in(config, CPU, {"selector": 1, "generator": 6})
    assert generator.thinking is not None
    thought = longest_thought(generator)
    assert thought is not None and len(thought.tokens) == THINK
    readings = [
        Reading.of(task, z, thought)
        for task, lists in zip(longest_tasks(config, QUESTIONS), unlike_lists(config, QUESTIONS), strict=True)
        for z in lists
    ]
    numbers = np.random.default_rng(0).random((len(readings), 1, THINK))

    def draw() -> None:
        asked = [replace(read, thought=None) for read in readings]
        drawn = generator.sample_thoughts(asked, list(numbers), config.e_step.max_tokens_per_micro_batch)
        assert sum(len(one.tokens) == THINK for (one,) in drawn) > len(drawn) / 2

    held = [*generator.model.hf.parameters(), *generator.model.hf.buffers()]
    weights = sum(p.nbytes for p in generator.model.hf.parameters())
    measured = most_bytes(draw, held) - weights
    own = phases["thinking"]["memory"] - phases["thinking"]["weights"]
    assert 0.8 * measured <= own <= 1.25 * measured
    lengths = [len(generator.prompt(read)) + THINK for read in readings]
    assert phases["thinking"]["tokens"] == pytest.approx(sum(lengths), rel=0.01)
    with torch.no_grad(), profiled(Profile(1.0)) as profile:
        for at in range(QUESTIONS):
            log_probs(generator.model, [generator.learned(readings[3 * at : 3 * at + 3])])
    updated = phases["generator update"]["tokens"]
    assert updated == pytest.approx(sum(profile.tokens.values()), rel=0.01)
    assert updated > before["generator update"]["tokens"] + len(readings) * THINK
    assert updated == pytest.approx(phases["scoring"]["tokens"], rel=0.01)
