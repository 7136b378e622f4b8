"""What is asked for changes a run's own way of answering, and leaves the rest of it."""

from __future__ import annotations

import pytest

from ragdro.config.answering import Answering, changed
from ragdro.errors import ConfigError

OWN = Answering(kind="marginal", samples=32, threshold=0.4, seed=7)


def test_a_kind_alone_keeps_the_samples_the_threshold_and_the_seed() -> None:
    assert changed(OWN, "marginal") == changed(OWN) == OWN
    waiting = Answering(kind="greedy", samples=32, seed=7)
    assert changed(waiting, "marginal") == Answering(kind="marginal", samples=32, seed=7)
    assert changed(OWN, "marginal", samples=4, threshold=0.0) == Answering(
        kind="marginal", samples=4, threshold=0.0, seed=7
    )


def test_greedy_leaves_the_threshold_and_refuses_what_is_of_marginal_answers() -> None:
    assert changed(OWN, "greedy") == Answering(kind="greedy", samples=32, seed=7)
    with pytest.raises(ConfigError, match="samples: a greedy answer draws no lists"):
        changed(OWN, "greedy", samples=4)
    with pytest.raises(ConfigError, match="threshold: a greedy answer has no confidence"):
        changed(Answering(), threshold=0.5)
    for kind in ("union", "joint"):
        assert changed(OWN, kind) == Answering(kind=kind, samples=32, seed=7)
        assert changed(Answering(), kind, samples=4) == Answering(kind=kind, samples=4)
        with pytest.raises(ConfigError, match=f"threshold: a {kind} answer has no confidence"):
            changed(Answering(), kind, threshold=0.5)
    with pytest.raises(ConfigError, match=r"answering\.kind"):
        changed(OWN, "best")
