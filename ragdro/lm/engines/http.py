"""Sampling from a server that is already deployed: OpenAI's completions protocol with vLLM's additions.

One request for each distinct beginning and choice: a prompt of token ids, `max_tokens` 1, the tokens that the
grammar allows (`allowed_token_ids`) and the log-probabilities of as many tokens, which the server has to take
after masking (`vllm serve --logprobs-mode processed_logprobs`, `--max-logprobs` at least the number of
candidates). Beginnings repeat, so its prefix cache does the rest. What would make other probabilities of them
(temperature, top-p, top-k, penalties) is switched off in the request, for it may be the server's default.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from ragdro.config.engine import OpenAiEngine
from ragdro.errors import TrainingError
from ragdro.json_http import JsonClient
from ragdro.lm.engines.base import SAMPLING, Choice, DecoderOf, Engine, EngineDecoder, allowed_log_probs
from ragdro.lm.model import LanguageModel


class HttpEngine(Engine):
    """`settings.url` is the address of the server's API, for instance http://host:8000/v1."""

    def __init__(self, settings: OpenAiEngine) -> None:
        self._settings = settings
        self._url = f"{settings.url.rstrip('/')}/completions"

    @contextmanager
    def serving(self, model: LanguageModel) -> Iterator[DecoderOf]:
        """The server's weights stay what they are; see `Engine`."""
        with (
            JsonClient(self._settings, TrainingError, "e_step.engine") as client,
            ThreadPoolExecutor(self._settings.concurrency) as pool,
        ):
            one = partial(self._ask, client)
            yield partial(EngineDecoder, lambda asked: list(pool.map(one, asked)))

    def _ask(self, client: JsonClient, choice: Choice) -> list[float]:
        body = {
            **SAMPLING,
            "model": self._settings.model,
            "prompt": list(choice.tokens),
            "allowed_token_ids": list(choice.allowed),
            "logprobs": len(choice.allowed),
            "return_tokens_as_token_ids": True,
        }
        reply = client.post(self._url, body)
        try:
            top = reply["choices"][0]["logprobs"]["top_logprobs"][0]
            by_id = {int(name.removeprefix("token_id:")): float(value) for name, value in top.items()}
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise TrainingError(
                f"{self._url}: unexpected reply: {type(error).__name__} {error}; the server has to know"
                " vLLM's allowed_token_ids and return_tokens_as_token_ids"
            ) from error
        return allowed_log_probs(by_id, choice.allowed, self._url)
