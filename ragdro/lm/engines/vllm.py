"""Sampling by vLLM, which this process starts beside itself: a copy of the selector, on the run's device.

Each choice of all lists is one batch: a token of each distinct beginning, masked by `allowed_token_ids`, with
the log-probabilities of the masked distribution; what beginnings share comes from vLLM's prefix cache. For
each E-step the selector is saved where vLLM loaded it from, and vLLM reads it again. On a GPU it sleeps while
the models are trained (https://docs.vllm.ai/en/latest/features/sleep_mode/, level 2); on a CPU vLLM cannot,
so it stays awake, with its weights and its cache. Each time it is looked whether it has the new weights:
where they do not reach it, it is started anew.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMError
from vllm.platforms import current_platform

from ragdro.config.engine import VllmEngine
from ragdro.errors import ModelError, TrainingError, warn
from ragdro.lm.engines.base import (
    KEY,
    SAMPLING,
    Asked,
    Choice,
    DecoderOf,
    Engine,
    EngineDecoder,
    allowed_log_probs,
)
from ragdro.lm.engines.parity import difference, is_stale, refuse_another, stale_weights
from ragdro.lm.engines.process import Survivors
from ragdro.lm.model import LanguageModel
from ragdro.lm.saving import save_language_model

_ALL = -1
"""As many log-probabilities as are asked for."""
_AUTO = -1
"""The longest sequence that the model and vLLM's cache allow."""
_CPU_BLOCK = 32
"""The fewest tokens that a block of the prefix cache may have on a CPU; vLLM's default is 128."""


class InProcessVllm(Engine):
    """`folder` holds the weights that vLLM reads; it is started with the first E-step."""

    def __init__(self, settings: VllmEngine, folder: Path, trust_remote_code: bool) -> None:
        self._settings = settings
        self._folder = folder
        self._trust_remote_code = trust_remote_code
        self._llm: Any = None
        self._survivors: Survivors | None = None
        """vLLM's processes, which do not notice that this one is killed."""
        may_sleep = settings.arguments.get("enable_sleep_mode", True)
        self._sleeps = bool(may_sleep) and current_platform.is_sleep_mode_available()
        self._rounding = 0.0
        """How far vLLM's log-probabilities were from our own when it had just been started."""
        self._starts_anew = False
        """Whether new weights have been found not to reach it while it runs."""
        self._asked = Asked()

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """See `Engine`. Raises `TrainingError` where vLLM does not start, or ends."""
        if model.adapter is not None:
            raise ModelError(
                f"{model.tokenizer.name}: {KEY} vllm takes a selector without an adapter; vllm-server"
                " takes one with it"
            )
        try:
            self._give(model)
            self._asked = Asked()
            yield partial(EngineDecoder, self._ask)
        except VLLMError as error:
            self.close()
            raise TrainingError(
                f"{KEY}: vLLM ended: {_line(error)}; what it printed says why. Start again with resume=True"
            ) from error
        finally:
            if self._llm is not None and self._sleeps:
                self._llm.sleep(level=2)
        self.tell("vllm", self._asked)

    def close(self) -> None:
        """End vLLM's processes."""
        if self._survivors is not None:
            self._survivors.release()
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = self._survivors = None

    def _give(self, model: LanguageModel) -> None:
        """Have vLLM, which is started if it does not run, compute `model` as it is now."""
        save_language_model(model, self._folder)
        if self._starts_anew:
            self.close()
        is_new = self._llm is None
        if is_new:
            others = multiprocessing.active_children()
            self._llm = self._start(model)
            own = [one for one in multiprocessing.active_children() if one not in others]
            self._survivors = Survivors([one.pid for one in own if one.pid is not None])
        else:
            self._reload()
        apart = difference(self._ask, model)
        if is_new:
            refuse_another(apart, model, f"{KEY}: vLLM", f"look at {KEY}.arguments, or take another version")
            self._rounding = apart
        elif is_stale(apart, self._rounding):
            self._starts_anew = True
            warn(stale_weights(apart, self._rounding, KEY))
            self._give(model)

    def _start(self, model: LanguageModel) -> Any:
        own = {
            "dtype": str(model.autocast or model.hf.dtype).removeprefix("torch."),
            "trust_remote_code": self._trust_remote_code,
            "enable_prefix_caching": True,
            "enable_sleep_mode": self._sleeps,
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": _ALL,
            "max_model_len": _AUTO,
            "gpu_memory_utilization": self._settings.memory,
            "tensor_parallel_size": self._settings.tensor_parallel,
        }
        if current_platform.is_cpu():
            own["block_size"] = _CPU_BLOCK
        self.say("vLLM is being started")
        try:
            return LLM(model=str(self._folder), **(own | self._settings.arguments))
        except (RuntimeError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{KEY}: vLLM did not start: {_line(error)}; what it printed says more; look at"
                f" {KEY}.memory and {KEY}.arguments"
            ) from error

    def _reload(self) -> None:
        """Read the folder again. What was computed with earlier weights is dropped."""
        if self._sleeps:
            self._llm.wake_up(tags=["weights"])
        self._llm.collective_rpc("reload_weights")
        if self._sleeps:
            self._llm.wake_up(tags=["kv_cache"])
        if not self._llm.reset_prefix_cache():
            raise TrainingError(f"{KEY}: vLLM keeps what it computed with earlier weights")

    def _ask(self, asked: Sequence[Choice]) -> list[list[float]]:
        begun = time.monotonic()
        parameters = [
            SamplingParams(
                **SAMPLING,
                allowed_token_ids=list(choice.allowed),
                logprobs=len(choice.allowed),
                detokenize=False,
            )
            for choice in asked
        ]
        prompts = [{"prompt_token_ids": list(choice.tokens)} for choice in asked]
        outputs = self._llm.generate(prompts, parameters, use_tqdm=False)
        self._asked.requests += 1
        self._asked.beginnings += len(asked)
        self._asked.seconds += time.monotonic() - begun
        results = []
        for choice, output in zip(asked, outputs, strict=True):
            log_probs = {token: one.logprob for token, one in output.outputs[0].logprobs[0].items()}
            results.append(allowed_log_probs(log_probs, choice.allowed, "vLLM"))
        return results


def _line(error: Exception) -> str:
    """What it says, in one line."""
    return shorten(str(error), 250, placeholder=" …")
