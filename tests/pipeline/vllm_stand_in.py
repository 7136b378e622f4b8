"""A process in the place of `vllm serve`, behind which the test's models stand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoModelForCausalLM

import ragdro
from ragdro.config import Config
from tests.engines import completions
from tests.pipeline.test_train import write_config
from tests.unit.retrieval.test_http import Reply, StandIn

LORA = "selector.adapter={kind: lora, rank: 4}"
QUICK = ["warm_up.selector=null", "warm_up.generator=null", "iterations=1"]


class FakeVllm:
    """What the stand-in's process is answered: how it behaves, and what the models that it was given say."""

    def __init__(self, backend: StandIn, folder: Path) -> None:
        self.backend = backend
        self.behaviour: dict[str, Any] = {}
        self.first: Callable[[], None] = lambda: None
        """Called when draws ask for the first time."""
        self.compared = False
        self.started: list[SimpleNamespace] = []
        self.worker = 0
        self.requested: list[str] = []
        self.names = {"selector"}
        self.hf: Any = None
        self.command = folder / "vllm"
        script = Path(__file__).parents[1] / "fake_vllm.py"
        self.command.write_text(f'#!/bin/sh\nBACKEND={backend.url} exec {sys.executable} {script} "$@"\n')
        self.command.chmod(0o755)
        backend.answer = self.answer

    @property
    def engine(self) -> str:
        return f"e_step.engine={{kind: vllm-server, command: {self.command}, backoff_seconds: 0.01}}"

    def answer(self, path: str, body: Any) -> Reply:
        """One request's reply."""
        if path == "/start":
            self.started.append(SimpleNamespace(**body))
            self.hf = AutoModelForCausalLM.from_pretrained(body["arguments"][1])
            return 200, {}, self.behaviour
        if path == "/worker":
            self.worker = body["pid"]
            return 200, {}, {}
        if path == "/v1/completions":
            return self._completions(body)
        self.requested.append(path)
        if path == "/collective_rpc":
            assert body == {"method": "reload_weights"}
            if self.behaviour.get("stale"):
                return 200, {}, {"results": [None]}
            self.hf = AutoModelForCausalLM.from_pretrained(self.started[-1].arguments[1])
        elif path == "/v1/load_lora_adapter":
            self.hf.load_adapter(body["lora_path"], adapter_name=body["lora_name"])
            self.hf.set_adapter(body["lora_name"])
            self.names.add(body["lora_name"])
        elif path == "/v1/unload_lora_adapter":
            self.hf.delete_adapter(body["lora_name"])
            self.names.remove(body["lora_name"])
        return 200, {}, {"success": True}

    def _completions(self, body: Any) -> Reply:
        assert body["model"] in self.names
        if self.compared:
            first, self.first = self.first, lambda: None
            first()
        self.compared = True
        reply: Reply = completions(self.hf)("/v1/completions", {**body, "model": "selector"})
        return reply

    def assert_gone(self) -> None:
        """Nothing of what was started is there any more."""
        assert self.started
        for pid in filter(None, [self.worker, *(one.pid for one in self.started)]):
            deadline = time.monotonic() + 10
            while runs(pid):
                assert time.monotonic() < deadline, pid
                time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether it is there, and no corpse that its parent has not looked at."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def served(folder: Path, vllm: FakeVllm, *overrides: str) -> Config:
    return ragdro.load_config(write_config(folder), [vllm.engine, *overrides])
