"""JSON over HTTP, patiently: what every service of ours is asked with.

In: an address and a JSON object. Out: the reply's JSON object, after time-outs, refused connections and
overloads were waited out; or one error, of the kind that the caller names, with the address and the cause.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any

import httpx

from ragdro.config.http import HttpService
from ragdro.errors import RagdroError
from ragdro.units import counted

RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})
LONGEST_WAIT = 60.0
"""Seconds; no wait between two tries is longer, whatever the service asks for."""


class JsonClient:
    """Connections to `service`, kept while this context is open; several threads may post at once.

    Raises `error` for whatever goes wrong; `key` is the service's place in the config.
    """

    def __init__(self, service: HttpService, error: type[RagdroError], key: str) -> None:
        self._service = service
        self._error = error
        headers = {name: self._from_environment(value, key) for name, value in service.headers.items()}
        self._client = httpx.Client(headers=headers, timeout=service.timeout_seconds)

    def __enter__(self) -> JsonClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The reply's JSON object, after at most `retries` further tries."""
        return self._json_object(self.send(url, body), url)

    def send(self, url: str, body: dict[str, Any]) -> httpx.Response:
        """The same where the reply is no JSON object."""
        service = self._service
        wait, cause = service.backoff_seconds, ""
        for attempt in range(service.retries + 1):
            if attempt:
                time.sleep(min(wait, LONGEST_WAIT))
                wait = service.backoff_seconds * 2**attempt
            try:
                reply = self._client.post(url, json=body)
            except httpx.TransportError as error:
                cause = f"{type(error).__name__} {error}".strip()
                continue
            if reply.status_code == httpx.codes.OK:
                return reply
            cause = f"status {reply.status_code}: {reply.text[:200]}"
            if reply.status_code not in RETRIED_STATUS:
                raise self._error(f"{url}: {cause}")
            wait = max(wait, _asked_wait(reply))
        raise self._error(f"{url}: gave up after {counted(service.retries + 1, 'tries')}: {cause}")

    def _from_environment(self, value: str, key: str) -> str:
        """A header's value; `$NAME` stands for an environment variable, so that no config holds a secret."""
        if not value.startswith("$"):
            return value
        try:
            return os.environ[value[1:]]
        except KeyError as error:
            raise self._error(f"{key}.headers: {value} is not set in the environment") from error

    def _json_object(self, reply: httpx.Response, url: str) -> dict[str, Any]:
        try:
            values = reply.json()
        except ValueError as error:
            raise self._error(f"{url}: the reply is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise self._error(f"{url}: the reply is not a JSON object")
        return values


def _asked_wait(reply: httpx.Response) -> float:
    """Seconds that the service's Retry-After asks for; 0 without one (or with a date)."""
    asked = reply.headers.get("Retry-After", "")
    return float(asked) if asked.isdigit() else 0.0
