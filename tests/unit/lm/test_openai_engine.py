"""An OpenAI-compatible server as the sampling engine: a stand-in behind which small random models stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

import ragdro
from ragdro import json_http
from ragdro.config.engine import OpenAiEngine
from ragdro.errors import ConfigError, TrainingError
from ragdro.lm.engines import open_engine
from ragdro.lm.engines.base import Engine
from ragdro.lm.engines.http import requests_of
from tests.engines import assert_equal_samples, completions, sampled
from tests.pipeline.test_train import write_config
from tests.unit.retrieval.test_http import Reply, StandIn, server, waits  # noqa: F401
from tests.unit.training.test_e_step import by_definition
from tests.worlds import pocket_rag


def http(server: StandIn, **settings: Any) -> Engine:  # noqa: F811
    return open_engine(
        OpenAiEngine(url=f"{server.url}/v1", model="selector", concurrency=2, **settings), Path("unused")
    )


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["e_step.engine=vlm"],
            "e_step.engine.kind: must be transformers, vllm, vllm-server or openai-compatible",
        ),
        (["e_step.engine.kind=openai-compatible"], "e_step.engine.url: must be given"),
        (["e_step.engine=vllm", "objective=rloo"], "e_step.engine transformers"),
        (["e_step.engine=vllm", "e_step.mixture={}"], "engine transformers"),
    ],
)
def test_engines_that_do_not_go_with_the_rest_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        ragdro.load_config(write_config(tmp_path), overrides)


def test_the_waits_are_the_shared_ones(waits: list[float]) -> None:  # noqa: F811
    assert json_http.time.sleep(1) is None and waits == [1]
