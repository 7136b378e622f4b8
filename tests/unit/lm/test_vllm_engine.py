"""vLLM in the process as the sampling engine: a stand-in for its module, behind which random models stand."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ragdro.config.engine import VllmEngine
from ragdro.errors import ConfigError, ModelError, TrainingError
from ragdro.lm.engines import open_engine
from ragdro.lm.model import LanguageModel
from ragdro.system import Rag
from tests.engines import assert_equal_samples, sampled, top_log_probs
from tests.worlds import pocket_rag


@dataclass(kw_only=True)
class SamplingParams:
    """vLLM's, as far as it is used: any other name is a TypeError."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    allowed_token_ids: list[int]
    logprobs: int
    detokenize: bool


class VLLMError(Exception):
    """vLLM's."""


class FakeLlm:
    """vLLM's `LLM`: weights from a folder, again at `reload_weights`; nothing is generated asleep, and what
    was computed with earlier weights is known until the cache is reset."""

    made: list[FakeLlm] = []  # noqa: RUF012
    can_sleep = True
    fails: str | None = None
    """Which call raises."""
    stale = False
    """Whether new weights do not reach it."""

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        trust_remote_code: bool,
        enable_prefix_caching: bool,
        enable_sleep_mode: bool,
        logprobs_mode: str,
        max_logprobs: int,
        max_model_len: int,
        gpu_memory_utilization: float,
        tensor_parallel_size: int,
        block_size: int | None = None,
        enforce_eager: bool = False,
    ) -> None:
        if self.fails == "start":
            raise RuntimeError("Engine core initialization failed.\nSee root cause above.")
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
        assert enable_sleep_mode <= self.can_sleep and (block_size == 32) != self.can_sleep
        assert enable_prefix_caching and logprobs_mode == "processed_logprobs" and dtype == "float32"
        assert (max_logprobs, max_model_len, trust_remote_code) == (-1, -1, False)
        self.model, self.asleep, self.enforce_eager = model, set[str](), enforce_eager
        self.may_sleep = enable_sleep_mode
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=self._shutdown))
        self.is_there = True
        self._load()
        FakeLlm.made.append(self)

    def _load(self) -> None:
        self.hf = AutoModelForCausalLM.from_pretrained(self.model)
        self.cached: dict[tuple[int, ...], dict[int, float]] = {}

    def _shutdown(self) -> None:
        self.is_there = False

    def sleep(self, level: int) -> None:
        assert level == 2 and self.may_sleep
        self.asleep = {"weights", "kv_cache"}
        self.cached.clear()

    def wake_up(self, tags: list[str]) -> None:
        assert self.may_sleep
        self.asleep -= set(tags)

    def collective_rpc(self, method: str) -> None:
        assert "weights" not in self.asleep and method == "reload_weights"
        if not self.stale:
            self.hf = AutoModelForCausalLM.from_pretrained(self.model)

    def reset_prefix_cache(self) -> bool:
        self.cached.clear()
        return self.fails != "reset"

    def generate(
        self, prompts: list[Any], sampling_params: list[SamplingParams], use_tqdm: bool
    ) -> list[Any]:
        assert not self.asleep and not use_tqdm and self.is_there
        if self.fails == "generate":
            raise VLLMError("EngineCore encountered an issue.\nSee stack trace (above).")
        outputs = []
        for prompt, p in zip(prompts, sampling_params, strict=True):
            assert p.max_tokens == 1 and p.temperature == 1.0
            tokens = prompt["prompt_token_ids"]
            known = (*tokens, *p.allowed_token_ids)
            if known not in self.cached:
                self.cached[known] = top_log_probs(self.hf, tokens, p.allowed_token_ids, p.logprobs)
            logprobs = [{token: SimpleNamespace(logprob=x) for token, x in self.cached[known].items()}]
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(logprobs=logprobs)]))
        return outputs


@pytest.fixture(params=[True, pytest.param(False, id="cpu")])
def vllm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeLlm]]:
    """A stand-in for the module, on a platform that can sleep (a GPU) and on one that cannot (a CPU)."""
    module, errors, platforms = (ModuleType(n) for n in ("vllm", "vllm.exceptions", "vllm.platforms"))
    module.LLM, module.SamplingParams = FakeLlm, SamplingParams  # type: ignore[attr-defined]
    errors.VLLMError = VLLMError  # type: ignore[attr-defined]
    platforms.current_platform = SimpleNamespace(  # type: ignore[attr-defined]
        is_sleep_mode_available=lambda: FakeLlm.can_sleep, is_cpu=lambda: not FakeLlm.can_sleep
    )
    for one in (module, errors, platforms):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    monkeypatch.delitem(sys.modules, "ragdro.lm.engines.vllm", raising=False)
    for setting in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(setting, "")
        monkeypatch.delenv(setting)
    monkeypatch.setattr(FakeLlm, "made", [])
    monkeypatch.setattr(FakeLlm, "can_sleep", request.param)
    yield FakeLlm
    sys.modules.pop("ragdro.lm.engines.vllm", None)


def update(rag: Rag) -> None:
    """An M-step of the selector."""
    with torch.no_grad():
        for p in rag.selector.model.hf.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))


def test_vllm_gets_the_weights_of_every_e_step_and_sleeps_between_them_where_it_can(
    vllm: type[FakeLlm], tmp_path: Path
) -> None:
    rag, said = pocket_rag(), []
    engine = open_engine(VllmEngine(arguments={"enforce_eager": True}), tmp_path / "engine")
    engine.say = said.append
    assert_equal_samples(sampled(rag, engine), sampled(rag, None))
    (llm,) = vllm.made
    assert bool(llm.asleep) == vllm.can_sleep and llm.enforce_eager
    update(rag)
    assert_equal_samples(sampled(rag, engine), sampled(rag, None))
    assert bool(llm.asleep) == vllm.can_sleep and len(vllm.made) == 1
    assert said[0] == "vLLM is being started"
    assert all(re.fullmatch(r"vllm: \d+ requests for \d+ beginnings in .* a second", s) for s in said[1:])
    assert len(said) == 3
    engine.close()
    assert not llm.is_there


def test_vllm_that_is_told_not_to_sleep_stays_awake(vllm: type[FakeLlm], tmp_path: Path) -> None:
    engine = open_engine(VllmEngine(arguments={"enable_sleep_mode": False}), tmp_path / "engine")
    rag = pocket_rag()
    for _ in range(2):
        assert_equal_samples(sampled(rag, engine), sampled(rag, None))
        update(rag)
    assert not vllm.made[0].asleep and len(vllm.made) == 1


def test_vllm_that_new_weights_do_not_reach_is_started_anew(vllm: type[FakeLlm], tmp_path: Path) -> None:
    rag, engine = pocket_rag(), open_engine(VllmEngine(), tmp_path / "engine")
    vllm.stale = True
    try:
        sampled(rag, engine)
        update(rag)
        with pytest.warns(RuntimeWarning, match="did not reach all of vLLM"):
            assert_equal_samples(sampled(rag, engine), sampled(rag, None))
        sampled(rag, engine)
    finally:
        vllm.stale = False
    assert [llm.is_there for llm in vllm.made] == [False, False, True]


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("start", r"vLLM did not start: Engine core initialization failed. See root cause above.; what it"),
        ("generate", r"vLLM ended: EngineCore encountered an issue. See stack trace \(above\).; what it"),
        ("reset", "vLLM keeps what it computed with earlier weights"),
    ],
)
def test_vllm_that_fails_is_one_line(
    fails: str, message: str, vllm: type[FakeLlm], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rag, engine = pocket_rag(), open_engine(VllmEngine(), tmp_path / "engine")
    if fails != "start":
        sampled(rag, engine)
    monkeypatch.setattr(vllm, "fails", fails)
    with pytest.raises(TrainingError, match=f"^e_step.engine: {message}") as failed:
        sampled(rag, engine)
    assert "\n" not in str(failed.value)
    assert fails != "generate" or not vllm.made[0].is_there


def test_engines_that_cannot_be_had_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "ragdro.lm.engines.vllm", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'ragdro\[vllm\]'"):
        open_engine(VllmEngine(), tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        open_engine(VllmEngine(), tmp_path)


def test_an_adapter_is_refused_by_vllm(vllm: type[FakeLlm], tmp_path: Path) -> None:
    model: LanguageModel = pocket_rag().selector.model
    model.adapter, model._adapted = "selector", SimpleNamespace(active_adapters=["selector"])
    with pytest.raises(ModelError, match="adapter"), open_engine(VllmEngine(), tmp_path).serving(model):
        pass
