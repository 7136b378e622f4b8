"""Sampling engines against stand-ins: a server and a `vllm` module behind which small random models stand."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import ragdro
from ragdro import json_http
from ragdro.algorithms import Dro
from ragdro.config import EStep
from ragdro.config.engine import OpenAiEngine, VllmEngine
from ragdro.errors import ConfigError, ModelError, TrainingError
from ragdro.lm.engines import open_engine
from ragdro.lm.engines.base import Engine
from ragdro.lm.engines.http import requests_of
from ragdro.lm.model import LanguageModel
from ragdro.system import Rag
from ragdro.training.e_step import e_step
from ragdro.training.proposals import proposals
from ragdro.types import WeightedTask
from tests.pipeline.test_train import write_config
from tests.unit.retrieval.test_http import Reply, StandIn, server, waits  # noqa: F401
from tests.unit.training.test_e_step import by_definition
from tests.worlds import pocket_rag, pocket_tasks

NEUTRAL = {
    "max_tokens": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


def top_log_probs(
    hf: Any, tokens: Sequence[int], allowed: Sequence[int], count: int, raw: bool = False
) -> dict[int, float]:
    """The `count` largest log-probabilities of the next token, masked before (processed) or after (raw)."""
    with torch.no_grad():
        logits = hf(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0, -1]
    if not raw:
        mask = torch.full_like(logits, -math.inf)
        mask[list(allowed)] = 0
        logits = logits + mask
    best = logits.log_softmax(-1).topk(count)
    return dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))


def completions(hf: Any, raw: bool = False) -> Any:
    """A server's answer, as vLLM's: JSON has no minus infinity."""

    def answer(path: str, body: Any) -> Reply:
        assert path == "/v1/completions" and body["model"] == "selector"
        assert {k: body[k] for k in NEUTRAL} == NEUTRAL and body["return_tokens_as_token_ids"]
        assert body["logprobs"] <= 20 and len(body["prompt"]) <= 64  # what any server gives, and takes
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            log_probs = top_log_probs(hf, prompt, body["allowed_token_ids"], body["logprobs"], raw)
            top = {f"token_id:{token}": max(value, -9999.0) for token, value in log_probs.items()}
            first = next(iter(top))
            logprobs = {
                "tokens": [first],
                "token_logprobs": [top[first]],
                "top_logprobs": [top],
                "text_offset": [0],
            }
            choices.append({"index": index, "text": "?", "logprobs": logprobs, "finish_reason": "length"})
        return (200, {}, {"choices": choices[::-1]})

    return answer


def sampled(rag: Rag, engine: Engine | None, temperature: float = 1.0) -> list[WeightedTask]:
    settings = EStep(samples=6, temperature=temperature)
    asked = {"max_tokens": 2000}
    tasks = pocket_tasks(3, 5)
    if engine is None:
        return e_step(rag.selector, rag.generator, tasks, propose=proposals(Dro(), settings, 3, 1), **asked)
    with engine.serving(rag.selector.model) as decoder:
        propose = proposals(Dro(), settings, 3, 1, decoder)
        return e_step(rag.selector, rag.generator, tasks, propose=propose, **asked)


def http(server: StandIn, **settings: Any) -> Engine:  # noqa: F811
    return open_engine(
        OpenAiEngine(url=f"{server.url}/v1", model="selector", concurrency=2, **settings), Path("unused")
    )


def assert_equal_samples(actual: list[WeightedTask], expected: list[WeightedTask]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert [(s.permutation, s.count) for s in a.samples] == [(s.permutation, s.count) for s in b.samples]
        for x, y in zip(a.samples, b.samples, strict=True):
            assert (x.log_proposal, x.log_prior, x.weight) == pytest.approx(
                (y.log_proposal, y.log_prior, y.weight), abs=1e-4
            )
        assert a.bound == pytest.approx(b.bound, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_a_server_with_the_selectors_weights_samples_as_the_selector(
    temperature: float,
    server: StandIn,  # noqa: F811
) -> None:
    rag = pocket_rag()
    server.answer = completions(rag.selector.model.hf)
    samples = sampled(rag, http(server), temperature)
    assert_equal_samples(samples, sampled(rag, None, temperature))
    # Five or so choices of six branches each, and beginnings that branches share are asked about once.
    prompts = sum(len(body["prompt"]) for _, _, body in server.requests)
    assert len(server.requests) < prompts < sum(s.count for w in samples for s in w.samples) * 2


def test_requests_are_few_and_need_no_more_log_probabilities_than_any_server_gives() -> None:
    assert requests_of([], 4) == []
    assert requests_of([(1, 2)] * 7, 1) == [[0, 1, 2, 3, 4, 5, 6]]
    assert requests_of([(1, 2)] * 7, 3) == [[0, 1, 2], [3, 4, 5], [6]]  # no more than three, all under way
    assert [len(g) for g in requests_of([(1,)] * 300, 2)] == [64, 64, 64, 64, 44]
    first, second, third = tuple(range(15)), tuple(range(3, 18)), tuple(range(6, 21))
    assert requests_of([third, first, second, first], 1) == [[1, 3, 2], [0]]  # 18 tokens, and 21 are too many
    many = tuple(range(30))
    assert requests_of([many, many[:1]], 1) == [[1, 0]]  # where one alone needs 30, the others may too


def test_an_older_models_samples_are_corrected_for(server: StandIn) -> None:  # noqa: F811
    rag, older = pocket_rag(), pocket_rag(seed=1)
    server.answer = completions(older.selector.model.hf)
    samples = sampled(rag, http(server))
    for weighted in samples:
        zs = [s.permutation for s in weighted.samples]
        q, p = (r.selector.log_prob(weighted.task, zs, 2000) for r in (older, rag))
        assert [s.log_proposal for s in weighted.samples] == pytest.approx(q, abs=1e-4)
        assert [s.log_prior for s in weighted.samples] == pytest.approx(p, abs=1e-4)
        assert max(abs(a - b) for a, b in zip(q, p, strict=True)) > 0.1
        expected = by_definition(rag, weighted)
        assert {s.permutation: s.weight for s in weighted.samples} == pytest.approx(expected, rel=1e-3)


def test_a_server_that_tells_of_unmasked_probabilities_is_refused(server: StandIn) -> None:  # noqa: F811
    rag = pocket_rag()
    server.answer = completions(rag.selector.model.hf, raw=True)
    with pytest.raises(TrainingError, match=r"5 allowed ones; .*--logprobs-mode processed_logprobs"):
        sampled(rag, http(server))


def test_overload_is_waited_out_and_what_is_no_reply_named(server: StandIn, waits: list[float]) -> None:  # noqa: F811
    rag = pocket_rag()
    right, failures = completions(rag.selector.model.hf), [503, 429, 500]
    server.answer = lambda path, body: (failures.pop(), {}, {}) if failures else right(path, body)
    assert_equal_samples(sampled(rag, http(server)), sampled(rag, None))
    assert len(waits) == 3
    server.answer = lambda path, body: (200, {}, {"choices": [{"index": 0}]})
    with pytest.raises(TrainingError, match=r"/v1/completions: unexpected reply: KeyError"):
        sampled(rag, http(server))
    server.answer = lambda path, body: (200, {}, {"choices": right(path, body)[2]["choices"][1:]})
    with pytest.raises(TrainingError, match=r"/v1/completions: \d choices for \d prompts"):
        sampled(rag, http(server))
    server.answer = lambda path, body: (404, {}, {"error": "no model 'selector'"})
    with pytest.raises(TrainingError, match=r"status 404.*no model"):
        sampled(rag, http(server))
    with pytest.raises(TrainingError, match="gave up after 2 tries: Connect"):
        sampled(
            rag, open_engine(OpenAiEngine(url="http://127.0.0.1:9/v1", model="m", retries=1), Path("unused"))
        )


@pytest.mark.slow
def test_a_run_with_a_deployed_server(server: StandIn, tmp_path: Path) -> None:  # noqa: F811
    config = write_config(tmp_path, iterations=1)
    hf = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    server.answer = completions(hf)
    engine = f"{{kind: openai-compatible, url: {server.url}/v1, model: selector}}"
    ragdro.run(ragdro.load_config(config, [f"e_step.engine={engine}"]))
    log = [json.loads(line) for line in (tmp_path / "runs/run/metrics.jsonl").read_text().splitlines()]
    (event,) = [r for r in log if r["event"] == "e_step"]
    assert event["questions"] == 4 and 1 <= event["effective_sample_size"] <= 3
    assert server.requests


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["e_step.engine=vlm"],
            "e_step.engine: must be transformers, vllm, vllm-server or openai-compatible",
        ),
        (["e_step.engine.kind=openai-compatible"], "e_step.engine.url: Field required"),
        (["e_step.engine=vllm", "objective=rloo"], "e_step.engine transformers"),
        (["e_step.engine=vllm", "e_step.mixture={}"], "engine transformers"),
    ],
)
def test_engines_that_do_not_go_with_the_rest_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        ragdro.load_config(write_config(tmp_path), overrides)


def test_an_adapter_is_refused_by_vllm(vllm: type[FakeLlm], tmp_path: Path) -> None:
    model: LanguageModel = pocket_rag().selector.model
    model.adapter, model._adapted = "selector", SimpleNamespace(active_adapters=["selector"])
    with pytest.raises(ModelError, match="adapter"), open_engine(VllmEngine(), tmp_path).serving(model):
        pass


def test_the_waits_are_the_shared_ones(waits: list[float]) -> None:  # noqa: F811
    assert json_http.time.sleep(1) is None and waits == [1]
