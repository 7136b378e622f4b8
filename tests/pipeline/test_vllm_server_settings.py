"""Settings that the E-step's server does not take, and GPUs that are not its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import ragdro
from ragdro.errors import ConfigError
from ragdro.lm.engines import gpus as gpus_module
from ragdro.lm.engines.gpus import taken_gpus
from ragdro.runs import vllm_server as module
from ragdro.runs.vllm_server import VllmServer
from tests.pipeline.test_train import write_config
from tests.pipeline.vllm_stand_in import LORA, FakeVllm, served


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "e_step.engine={kind: vllm-server, command: no-vllm}",
            r"engine\.command: no command 'no-vllm' here",
        ),
        ("e_step.engine={kind: vllm-server, gpus: [-1]}", r"e_step\.engine\.gpus"),
        ("e_step.engine={kind: vllm-server, gpu: [1]}", r"unknown key 'e_step\.engine\.gpu'"),
    ],
)
def test_what_cannot_be_served_is_refused(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        VllmServer(ragdro.load_config(write_config(tmp_path), [override]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["selector.layers=1", LORA], "selector.layers: e_step.engine vllm-server serves a whole base"),
        (["selector.adapter={kind: lora, rank: 1024}"], "selector.adapter.rank: vLLM takes 512 at most"),
    ],
)
def test_adapters_that_vllm_cannot_serve_are_refused(
    overrides: list[str], message: str, vllm: FakeVllm, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        VllmServer(served(tmp_path, vllm, *overrides))


def test_the_gpus_that_the_run_trains_on_are_not_the_servers(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert taken_gpus("cpu", {}) == []
    assert taken_gpus("cuda", {}) == ["0"] and taken_gpus("cuda:3", {}) == ["3"]
    four = {"LOCAL_WORLD_SIZE": "2", "CUDA_VISIBLE_DEVICES": "4,6,7"}
    assert taken_gpus("cuda", four) == ["4", "6"]
    monkeypatch.setattr(module, "taken_gpus", lambda device, environment: ["0", "1"])
    for gpus, message in (("[2, 1]", "the run itself trains on 1"), ("[]", "name the GPUs")):
        with pytest.raises(ConfigError, match=f"e_step.engine.gpus: {message}"):
            VllmServer(served(tmp_path, vllm, f"e_step.engine.gpus={gpus}"))
    VllmServer(served(tmp_path, vllm, "e_step.engine.gpus=[2, 3]"))


LISTED = """GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
  MIG 1g.10gb     Device  0: (UUID: MIG-99999999-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-22223333-aaaa-bbbb-cccc-000000000000)
"""


@pytest.mark.parametrize(
    ("visible", "gpus", "refused"),
    [
        ("GPU-11111111,GPU-2222222", "[0]", "0"),  # CUDA takes the beginning of a UUID
        ("GPU-11111111,GPU-22222222", "[2]", None),
        ("GPU-11111111-aaaa-bbbb-cccc-000000000000,GPU-22222222", "[GPU-22222222-aaaa]", "GPU-22222222-aaaa"),
        ("GPU-11111111,GPU-22222222", "[GPU-22223333]", None),
        ("0, 1", "[GPU-22222222]", "GPU-22222222"),
        ("0,1", "[GPU-22223333]", None),
        ("MIG-99999999-aaaa", "[MIG-99999999]", "MIG-99999999"),
        ("MIG-99999999-aaaa", "[MIG-8]", None),
    ],
)
def test_gpus_by_uuid_and_by_number_are_the_same_ones(
    visible: str,
    gpus: str,
    refused: str | None,
    vllm: FakeVllm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = tmp_path / "bin/nvidia-smi"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\n[ -z "$CUDA_VISIBLE_DEVICES" ] && cat <<END\n{LISTED}END\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(gpus_module, "pick_device", lambda name: torch.device("cuda"))
    config = served(tmp_path, vllm, f"e_step.engine.gpus={gpus}")
    if refused is None:
        VllmServer(config)
        return
    with pytest.raises(ConfigError, match=f"the run itself trains on {refused}; give"):
        VllmServer(config)


def test_uuids_without_nvidia_smi_are_to_be_named_alike(
    vllm: FakeVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    monkeypatch.setattr(gpus_module, "pick_device", lambda name: torch.device("cuda"))
    config = served(tmp_path, vllm, "e_step.engine.gpus=[0]")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"the run's GPUs are GPU-1 .* name the server's in the same way"):
        VllmServer(config)
