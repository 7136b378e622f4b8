"""Profiles by hand: a clock that we turn, and FLOPs that torch counts itself."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ragdro.profiling import Profile, active_profile, phase, profiled
from tests.conftest import byte_level, random_model


def test_a_phase_has_its_own_time_and_a_whole_one_that_of_those_inside() -> None:
    now = [0.0]

    def work(seconds: float) -> None:
        now[0] += seconds

    @phase("decode")
    def decode() -> None:
        work(3)
        with phase("prefill"):
            work(4)
            if (active := active_profile()) is not None:
                active.count(10, 200.0)
        work(5)

    with profiled(Profile(peak=100.0, clock=lambda: now[0])) as profile:
        work(1)
        decode()
        with phase("evaluate", whole=True):
            work(2)
            decode()
        with pytest.raises(ValueError), phase("save"):
            work(7)
            raise ValueError
        work(1)
    decode()  # outside of the block: nobody's
    assert active_profile() is None
    assert dict(profile.seconds) == {"other": 2, "decode": 8, "prefill": 4, "evaluate": 14, "save": 7}
    summary = profile.summary()
    assert summary["phases"]["prefill"] == {
        "seconds": 4, "fraction": pytest.approx(4 / 47), "tokens": 10, "tokens_per_second": 2.5,
        "flops_per_second": 50.0, "utilisation": 0.5,
    }  # fmt: skip
    assert summary["phases"]["evaluate"]["tokens"] == 10 and summary["total"]["tokens"] == 20
    assert list(summary["phases"])[-1] == "other"


def test_flops_are_those_that_torch_counts() -> None:
    model = random_model(byte_level(), attn_implementation="eager")
    length = 40
    tokens = torch.arange(length)[None]
    profile = Profile(peak=1.0)
    assert model.logit_transform is not None  # looked up once a model, by a forward pass of its own
    with FlopCounterMode(display=False) as counter, torch.no_grad(), profiled(profile):
        hidden = model.hidden(tokens, tokens)
        model.token_log_probs(hidden[0, -3:], tokens[0, :3])
    masked = 4 * 2 * 32 * (length**2 - length * (length + 1) / 2)  # 2 layers, 32 channels: not needed
    assert sum(profile.flops.values()) == pytest.approx(counter.get_total_flops() - masked, rel=0.01)
    with profiled(training := Profile(peak=1.0)):
        model.hidden(tokens, tokens)
    with profiled(reading := Profile(peak=1.0)), torch.no_grad():
        model.hidden(tokens, tokens)
    assert training.flops["other"] == 3 * reading.flops["other"] and reading.tokens["other"] == length
