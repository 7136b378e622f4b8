"""A stand-in for vLLM's command: a process that listens where it is told, and has the test answer.

What it is asked goes on to the address in BACKEND: how it was started to `/start`, whose reply says how it
behaves, and each request to its own path, with the key that came along.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def forward(path: str, body: dict[str, Any], key: str) -> tuple[int, bytes]:
    """What the test answers."""
    headers = {"Content-Type": "application/json", "Key": key}
    request = urllib.request.Request(os.environ["BACKEND"] + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        return reply.status, reply.read()


class Handler(BaseHTTPRequestHandler):
    """Passes everything on."""

    def do_GET(self) -> None:
        """`/health`."""
        self._reply(200, b"")

    def do_POST(self) -> None:
        """Anything else."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._reply(*forward(self.path, body, self.headers.get("Authorization", "")))

    def _reply(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def main() -> None:
    """Serve until a signal."""
    arguments = sys.argv[1:]
    _, said = forward(
        "/start", {"arguments": arguments, "pid": os.getpid(), "environment": dict(os.environ)}, ""
    )
    behaviour = json.loads(said)
    print(behaviour.get("prints", "INFO starting"), flush=True)
    if behaviour.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        worker = subprocess.Popen(["sleep", "600"])
        forward("/worker", {"pid": worker.pid}, "")
    if "exit" in behaviour:
        sys.exit(behaviour["exit"])
    if behaviour.get("mute"):
        time.sleep(600)
    port = int(arguments[arguments.index("--port") + 1])
    ThreadingHTTPServer((arguments[arguments.index("--host") + 1], port), Handler).serve_forever()


if __name__ == "__main__":
    main()
