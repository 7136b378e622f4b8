"""What every request passes before a route sees it: host, key, size, form; and the line it leaves in the log.

In: an ASGI app. Out: the same app behind the guard. A body is read here, up to the limit, and given on only
if it is one JSON value: no route meets a body that is too large, too deep, not UTF-8 or not JSON. The log
has method, route, status and milliseconds: never a body, a query or a header.
"""

from __future__ import annotations

import hmac
import json
import logging
from asyncio import timeout
from time import perf_counter

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ragdro.serve.meters import Meters
from ragdro.serve.settings import ServeSettings
from ragdro.units import counted

log = logging.getLogger("ragdro.serve")
_BODY_SECONDS = 30.0
_DISCARDED = 16
"""A body of up to so many times its limit is read to its end, or the client would see a reset connection
where it should read the 413."""
_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def error_body(message: str, status: int, *, param: str | None = None) -> dict[str, object]:
    """An error in one line, where OpenAI's clients look for it and where Cohere's do."""
    kinds = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    line = " ".join(message.split())
    return {"message": line, "error": {"message": line, "type": kind, "param": param, "code": status}}


class Guard:
    """`routes` are the paths that log and meters name; others are 'other'. `keyless`: those that need no
    key.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServeSettings,
        meters: Meters,
        routes: frozenset[str],
        keyless: frozenset[str],
    ) -> None:
        self._app = app
        self._settings = settings
        self._meters = meters
        self._routes = routes
        self._keyless = keyless
        self._key = None if settings.api_key is None else settings.api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            try:
                self._check(scope)
                body = await self._body(scope, receive)
            except _RefusedError as refused:
                await _refuse(noted, refused.status, str(refused))
            else:
                await self._app(scope, _replay(body, receive), noted)
        finally:
            seconds, route = (
                perf_counter() - started,
                scope["path"] if scope["path"] in self._routes else "other",
            )
            self._meters.requests.labels(route, status).inc()
            self._meters.seconds.labels(route).observe(seconds)
            log.info("%s %s %d %.0f ms", scope["method"], route, status, 1000 * seconds)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._settings.is_local and name.strip("[]").lower() not in _HOSTS:
            # A page whose name was pointed at this machine (DNS rebinding) says its own name.
            raise _RefusedError(403, "this server answers to localhost alone")
        if self._key is None or scope["path"] in self._keyless:
            return
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._key):
            raise _RefusedError(401, "the API key is missing or wrong (Authorization: Bearer KEY)")

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return b""
        limit, read, size = self._settings.max_body, bytearray(), 0
        try:
            async with timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusedError(499, "the client has left")
                    size += len(message.get("body", b""))
                    if size <= limit:
                        read += message.get("body", b"")
                    if size > _DISCARDED * limit or not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise _RefusedError(408, f"the body did not come within {_BODY_SECONDS:g} s") from error
        if size > limit:
            raise _RefusedError(413, f"the body is larger than {counted(limit, 'bytes')}")
        try:
            orjson.loads(read)
        except orjson.JSONDecodeError as error:
            raise _RefusedError(400, f"the body is not JSON: {str(error)[:200]}") from error
        return bytes(read)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what comes (which is that the client leaves)."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return first.pop() if first else await receive()

    return replayed


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_body(message, status)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
