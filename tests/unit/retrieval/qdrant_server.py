"""A stand-in of Qdrant's server: the REST requests that we send, answered by the embedded engine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from qdrant_client import QdrantClient, models


class QdrantServer:
    """It can be stopped and started again on the same port, and can fail a number of times with 503."""

    def __init__(self, folder: Path, key: str) -> None:
        self.engine = QdrantClient(path=str(folder), force_disable_check_same_thread=True)
        self.key, self.failures = key, 0
        self._lock = threading.Lock()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                status, result = served.reply(self.command, self.path, body, self.headers.get("api-key"))
                values = {"status": "ok", "time": 0.0, "result": result}
                data = json.dumps(values if status == 200 else {"status": {"error": result}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            connections: list[Any] = []  # noqa: RUF012

            def process_request(self, request: Any, client_address: Any) -> None:
                self.connections.append(request)
                super().process_request(request, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A connection that was cut is part of the tests."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Nothing listens any more, and open connections are cut."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            for connection in server.connections:  # type: ignore[attr-defined]
                connection.close()

    def close(self) -> None:
        self.stop()
        self.engine.close()

    def reply(self, method: str, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        """Status and result of one request."""
        with self._lock:
            if self.failures:
                self.failures -= 1
                return 503, "starting"
            if key != self.key:
                return 401, "Must provide an API key"
            return 200, _plain(self._result(method, path.partition("?")[0], body))

    def _result(self, method: str, path: str, body: Any) -> Any:
        engine, parts = self.engine, path.strip("/").split("/")
        match method, parts:
            case "GET", ["aliases"]:
                return engine.get_aliases()
            case "GET", ["collections"]:
                return engine.get_collections()
            case "POST", ["collections", "aliases"]:
                changes = models.ChangeAliasesOperation.model_validate(body).actions
                return engine.update_collection_aliases(changes)
            case "GET", ["collections", name, "exists"]:
                return {"exists": engine.collection_exists(name)}
            case "GET", ["collections", name]:
                return engine.get_collection(name)
            case "DELETE", ["collections", name]:
                return engine.delete_collection(name)
            case "PUT", ["collections", name]:
                made = models.CreateCollection.model_validate(body)
                return engine.create_collection(
                    name, made.vectors, made.sparse_vectors, metadata=made.metadata
                )
            case "POST", ["collections", name, "points", "count"]:
                return engine.count(name, exact=True)
            case "PUT", ["collections", name, "points"]:
                return engine.upsert(name, models.PointsList.model_validate(body).points)
            case "POST", ["collections", name, "points"]:
                return engine.retrieve(name, body["ids"], with_payload=True)
            case "POST", ["collections", name, "points", "scroll"]:
                points, offset = engine.scroll(name, limit=body["limit"], offset=body.get("offset"))
                return {"points": points, "next_page_offset": offset}
            case "POST", ["collections", name, "points", "query", "batch"]:
                asked = models.QueryRequestBatch.model_validate(body).searches
                return engine.query_batch_points(name, asked)
        raise AssertionError(f"{method} {path}: not answered here")


def _plain(value: Any) -> Any:
    """JSON values of what the engine returns."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value
