"""Engines that sample for the E-step: which is which. The run's own server is `ragdro.runs.vllm_server`'s."""

from __future__ import annotations

import os
from pathlib import Path

from ragdro.config.engine import EngineSettings, OpenAiEngine, VllmEngine
from ragdro.environment import env_world_size
from ragdro.errors import ConfigError
from ragdro.lm.engines.base import Engine, OwnEngine

_VLLM = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
"""What vLLM reads from the environment as it is imported: it tells nobody that it is used, and us no more
than we can act on."""


def open_engine(settings: EngineSettings, folder: Path, *, trust_remote_code: bool = False) -> Engine:
    """The engine of a config; `folder` is where it may keep weights, `trust_remote_code` the selector's.

    Raises `ConfigError` for a library that is not installed.
    """
    if isinstance(settings, OpenAiEngine):
        try:
            from ragdro.lm.engines.http import HttpEngine
        except ImportError as error:
            raise ConfigError(f"e_step.engine: needs httpx (pip install 'ragdro[http]'): {error}") from error
        return HttpEngine(settings)
    if isinstance(settings, VllmEngine):
        if env_world_size() > 1:
            raise ConfigError("e_step.engine: vllm is for one process; with torchrun use vllm-server")
        for name, value in _VLLM.items():
            os.environ.setdefault(name, value)
        try:
            from ragdro.lm.engines.vllm import InProcessVllm
        except ImportError as error:
            raise ConfigError(f"e_step.engine: needs vLLM (pip install 'ragdro[vllm]'): {error}") from error
        return InProcessVllm(settings, folder, trust_remote_code)
    return OwnEngine()
