"""What stands in for a sampling engine, and E-steps that ask one: small random models behind both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ragdro.algorithms import Dro
from ragdro.config import EStep
from ragdro.lm.engines.base import Engine
from ragdro.system import Rag
from ragdro.training.e_step import e_step
from ragdro.training.proposals import proposals
from ragdro.types import WeightedTask
from tests.unit.retrieval.test_http import Reply
from tests.worlds import pocket_tasks

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


def assert_equal_samples(actual: list[WeightedTask], expected: list[WeightedTask]) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert [(s.permutation, s.count) for s in a.samples] == [(s.permutation, s.count) for s in b.samples]
        for x, y in zip(a.samples, b.samples, strict=True):
            assert (x.log_proposal, x.log_prior, x.weight) == pytest.approx(
                (y.log_proposal, y.log_prior, y.weight), abs=1e-4
            )
        assert a.bound == pytest.approx(b.bound, abs=1e-4)
