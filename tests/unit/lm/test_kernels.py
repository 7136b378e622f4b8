"""Fused kernels: what asks for them where they cannot be. That they are right is checked on a GPU
(`benchmarks/attention_kernels.py --kernels liger`)."""

from __future__ import annotations

import pytest

from ragdro.config import ModelSettings
from ragdro.errors import ConfigError
from ragdro.lm.kernels import use_liger
from ragdro.lm.load import load_language_model, pick_device
from tests.conftest import byte_level, random_model


def test_on_a_cpu_they_are_refused_by_their_key() -> None:
    settings = ModelSettings(model="tiny:base", kernels="liger")
    with pytest.raises(ConfigError, match="kernels: liger needs an NVIDIA GPU, and tiny:base is on 'cpu'"):
        load_language_model("tiny:base", settings, pick_device("cpu"))
    with pytest.raises(ConfigError, match="take torch"):
        use_liger(random_model(byte_level()).hf, "m")
