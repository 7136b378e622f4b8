"""Sampling from a server: OpenAI's completions protocol with vLLM's additions.

A request holds many beginnings (prompts of token ids) with `max_tokens` 1, the tokens that the grammar allows
behind any of them (`allowed_token_ids`) and the log-probabilities of as many tokens, which the server has to
take after masking (`vllm serve --logprobs-mode processed_logprobs`, `--max-logprobs` at least the number of
candidates). Of these each beginning takes those that it allows itself, whose odds no mask changes. Beginnings
repeat, so the server's prefix cache does the rest. What would make other probabilities of them (temperature,
top-p, top-k, penalties) is switched off in the request, for it may be the server's default.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from ragdro.config.engine import OpenAiEngine
from ragdro.config.http import HttpService
from ragdro.errors import TrainingError
from ragdro.json_http import JsonClient
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
from ragdro.lm.model import LanguageModel

_LOG_PROBS = 20
"""So many log-probabilities any server gives (vLLM's default of `--max-logprobs`)."""
_PROMPTS = 64
"""No request holds more beginnings: it is some megabytes then."""


class HttpEngine(Engine):
    """`settings.url` is the address of the server's API, for instance http://host:8000/v1."""

    def __init__(self, settings: OpenAiEngine) -> None:
        self._settings = settings

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """The server's weights stay what they are; see `Engine`."""
        with asking(self._settings, self._settings.model, self._settings.concurrency) as completions:
            yield partial(EngineDecoder, completions.ask)
            self.tell(KEY, completions.asked)


@contextmanager
def asking(service: HttpService, model: str, concurrency: int) -> Iterator[Completions]:
    """Connections to the API at `service.url`, whose `model` is asked by `concurrency` requests at once."""
    with JsonClient(service, TrainingError, KEY) as client, ThreadPoolExecutor(concurrency) as pool:
        yield Completions(client, pool, f"{service.url.rstrip('/')}/completions", model, concurrency)


class Completions:
    """What a server says of the next token."""

    def __init__(
        self, client: JsonClient, pool: ThreadPoolExecutor, url: str, model: str, concurrency: int
    ) -> None:
        self._client = client
        self._pool = pool
        self._url = url
        self._model = model
        self._concurrency = concurrency
        self.asked = Asked()

    def ask(self, asked: Sequence[Choice]) -> list[list[float]]:
        """See `Ask`. Raises `TrainingError` for a server that does not answer, or not what it is asked."""
        begun = time.monotonic()
        groups = requests_of([choice.allowed for choice in asked], self._concurrency)
        replies = self._pool.map(lambda group: self._together([asked[i] for i in group]), groups)
        answers = {
            i: one
            for group, reply in zip(groups, replies, strict=True)
            for i, one in zip(group, reply, strict=True)
        }
        self.asked.requests += len(groups)
        self.asked.beginnings += len(asked)
        self.asked.seconds += time.monotonic() - begun
        return [answers[i] for i in range(len(asked))]

    def _together(self, choices: Sequence[Choice]) -> list[list[float]]:
        """One request; a beginning's log-probabilities are those among all tokens that are allowed to any."""
        allowed = sorted({token for choice in choices for token in choice.allowed})
        body = {
            **SAMPLING,
            "model": self._model,
            "prompt": [list(choice.tokens) for choice in choices],
            "allowed_token_ids": allowed,
            "logprobs": len(allowed),
            "return_tokens_as_token_ids": True,
        }
        reply = self._client.post(self._url, body)
        try:
            tables = [_by_id(one) for one in sorted(reply["choices"], key=lambda one: one["index"])]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise TrainingError(
                f"{self._url}: unexpected reply: {type(error).__name__} {error}; the server has to know"
                " vLLM's allowed_token_ids and return_tokens_as_token_ids"
            ) from error
        if len(tables) != len(choices):
            raise TrainingError(f"{self._url}: {len(tables)} choices for {len(choices)} prompts")
        return [
            allowed_log_probs(table, choice.allowed, self._url)
            for table, choice in zip(tables, choices, strict=True)
        ]


def requests_of(allowed: Sequence[tuple[int, ...]], concurrency: int) -> list[list[int]]:
    """The places of choices that are asked about in one request each: as few requests as keep `concurrency`
    of them under way, such that no request needs more log-probabilities than one of its choices alone or any
    server gives."""
    most = max(_LOG_PROBS, max(map(len, allowed), default=0))
    size = min(_PROMPTS, -(-len(allowed) // concurrency))
    groups: list[list[int]] = []
    union: set[int] = set()
    for place in sorted(range(len(allowed)), key=lambda i: allowed[i]):
        union |= set(allowed[place])
        if not groups or len(groups[-1]) == size or len(union) > most:
            groups.append([])
            union = set(allowed[place])
        groups[-1].append(place)
    return groups


def _by_id(choice: dict[str, Any]) -> dict[int, float]:
    top = choice["logprobs"]["top_logprobs"][0]
    return {int(name.removeprefix("token_id:")): float(value) for name, value in top.items()}
