"""A hub of the tests' own on this machine, and one that cannot be reached."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

_COMMIT = "0" * 39 + "1"


@contextmanager
def unreachable_hub() -> Iterator[None]:
    """No server listens where the hub is said to be."""
    with pytest.MonkeyPatch.context() as patch:
        _point_to(patch, "http://127.0.0.1:9")
        yield


@contextmanager
def hub(models: Mapping[str, Path], cache: Path) -> Iterator[list[str]]:
    """A hub that has these models, by name, and what it was asked for; what is downloaded lies in `cache`."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            asked.append(self.path)
            name, _, rest = self.path.lstrip("/").partition("/resolve/")
            if any(self.path.startswith(f"/api/models/{known}/tree/") for known in models):
                self._refuse("EntryNotFound")  # a folder of further chat templates, which none has
                return
            if name not in models:
                self._refuse("RepoNotFound")
                return
            file = models[name] / rest.partition("/")[2]
            if not file.is_file():
                self._refuse("EntryNotFound")
                return
            content = file.read_bytes()
            self.send_response(200)
            self.send_header("X-Repo-Commit", _COMMIT)
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def _refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", _COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            _point_to(patch, f"http://127.0.0.1:{server.server_port}")
            patch.setattr(constants, "HF_HUB_CACHE", str(cache))
            yield asked
    finally:
        server.shutdown()
        server.server_close()


def _point_to(patch: pytest.MonkeyPatch, address: str) -> None:
    patch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{repo_id}")
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + template[1] + template[2])
