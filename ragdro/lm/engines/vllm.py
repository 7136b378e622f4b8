"""Sampling by vLLM in this process: a copy of the selector, which sleeps while the models are trained.

Each choice of all lists is one batch: a token of each distinct beginning, masked by `allowed_token_ids`, with
the log-probabilities of the masked distribution; what beginnings share comes from vLLM's prefix cache. For
each E-step the selector is saved where vLLM loaded it from, and vLLM reads it again as it wakes up
(https://docs.vllm.ai/en/latest/features/sleep_mode/, level 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from vllm import LLM, SamplingParams

from ragdro.config.engine import VllmEngine
from ragdro.errors import ModelError
from ragdro.lm.engines.base import SAMPLING, Choice, DecoderOf, Engine, EngineDecoder, allowed_log_probs
from ragdro.lm.load import save_language_model
from ragdro.lm.model import LanguageModel

_ALL = -1
"""As many log-probabilities as are asked for."""


class InProcessVllm(Engine):
    """`folder` holds the weights that vLLM reads; it is started with the first E-step."""

    def __init__(self, settings: VllmEngine, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._llm: Any = None

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """See `Engine`."""
        if model.adapter is not None:
            raise ModelError(
                f"{model.tokenizer.name}: e_step.engine vllm takes a selector without an adapter; vllm-server"
                " takes one with it"
            )
        save_language_model(model, self._folder)
        if self._llm is None:
            self._llm = LLM(
                model=str(self._folder),
                enable_prefix_caching=True,
                enable_sleep_mode=True,
                logprobs_mode="processed_logprobs",
                max_logprobs=_ALL,
                gpu_memory_utilization=self._settings.memory,
                tensor_parallel_size=self._settings.tensor_parallel,
            )
        else:
            self._llm.wake_up(tags=["weights"])
            self._llm.collective_rpc("reload_weights")
            self._llm.wake_up(tags=["kv_cache"])
        try:
            yield partial(EngineDecoder, self._ask)
        finally:
            self._llm.sleep(level=2)

    def _ask(self, asked: Sequence[Choice]) -> list[list[float]]:
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
        results = []
        for choice, output in zip(
            asked, self._llm.generate(prompts, parameters, use_tqdm=False), strict=True
        ):
            log_probs = {token: one.logprob for token, one in output.outputs[0].logprobs[0].items()}
            results.append(allowed_log_probs(log_probs, choice.allowed, "vLLM"))
        return results
