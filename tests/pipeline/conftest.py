"""A run of one process, and servers of the E-step: a stand-in for vLLM's command, and vLLM itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ragdro.lm.engines import http
from ragdro.runs.vllm_server import VllmServer
from tests.pipeline.crash import Command
from tests.pipeline.processes import uneven
from tests.pipeline.real_vllm import Counted
from tests.pipeline.vllm_stand_in import FakeVllm, served
from tests.unit.retrieval.test_http import StandIn, server  # noqa: F401


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config and `runs/alone`, a run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    running = Command(folder, "train", str(uneven(folder)), "name=alone")
    assert running.wait() == 0, running.said
    return folder


@pytest.fixture
def vllm(server: StandIn, tmp_path: Path) -> FakeVllm:  # noqa: F811
    return FakeVllm(server, tmp_path)


@pytest.fixture
def engine(vllm: FakeVllm, tmp_path: Path) -> Iterator[VllmServer]:
    one = VllmServer(served(tmp_path, vllm))
    yield one
    one.close()


@pytest.fixture
def real_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM on a CPU has a cache of 1 GiB, and requests to a server are counted."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setattr(http, "JsonClient", Counted)


@pytest.fixture
def trainings() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
