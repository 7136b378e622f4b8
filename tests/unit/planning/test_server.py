"""The GPUs of a server that the run starts are in the plan and looked for before it starts."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

import ragdro
from ragdro.config import Config
from ragdro.errors import ConfigError
from ragdro.lm.engines import gpus as gpus_module
from ragdro.lm.load import load_language_model
from ragdro.planning.server import check_server, plan_server
from ragdro.report.plan import plan_config, print_plan
from tests.pipeline.test_train import write_config

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def config_of(folder: Path, engine: str, *more: str) -> Config:
    return ragdro.load_config(write_config(folder), [f"e_step.engine={engine}", *more])


def test_the_servers_gpus_hold_its_weights_between_them(tmp_path: Path) -> None:
    config = config_of(tmp_path, "{kind: vllm-server, gpus: [6, 7], memory: 0.8}")
    whole = load_language_model(str(config.selector.model), config.selector, CPU).hf
    planned = plan_server(config, GPU, 6)
    weights = sum(p.numel() for p in whole.parameters())
    assert planned == {"gpus": [6, 7], "weights": weights * 4 / 2, "memory": 0.8, "devices": 8}
    half = config_of(tmp_path, "{kind: vllm-server, gpus: [6]}", "selector.dtype=bfloat16")
    assert plan_server(half, CPU, 3) == {"gpus": [6], "weights": weights * 2, "memory": 0.9, "devices": 1}
    assert plan_server(config_of(tmp_path, "transformers"), CPU, 1) is None


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (
            "{kind: vllm-server, gpus: [6, 7]}",
            "vllm-server takes 2 GPUs (6, 7): weights of 0 MiB on each, 90% of its memory with vLLM's"
            " cache\n",
        ),
        ("vllm-server", "vllm-server runs on the CPU, with weights of 0 MiB"),
    ],
)
def test_the_plan_says_what_the_server_takes(engine: str, said: str, tmp_path: Path) -> None:
    shown = io.StringIO()
    print_plan(plan_config(config_of(tmp_path, engine), 2, 3), Console(file=shown, width=200))
    assert f"e_step.engine: {said}" in shown.getvalue()


def test_the_runs_own_gpus_are_counted_one_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = check_server(config_of(tmp_path, "{kind: vllm-server, gpus: [6, 7]}"), GPU)
    assert found is not None and found.text.startswith("vllm-server takes 2 further GPUs (6, 7): weights")
    assert found.text.endswith("; 5 GPUs with those of the run")


@pytest.mark.parametrize(
    ("gpus", "memory", "visible", "level", "said"),
    [
        ("[1]", 0.9, None, "ok", "takes 1 further GPU (1)"),
        ("[2]", 0.9, None, "problem", "there are 2 GPUs here, from 0"),
        ("[6]", 0.9, "4,5", "ok", "takes 1 further GPU (6)"),
        ("[1]", 1e-6, None, "problem", "give it more GPUs"),
    ],
)
def test_a_machine_without_the_servers_gpus_is_a_problem(
    gpus: str,
    memory: float,
    visible: str | None,
    level: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**30)
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(gpus_module, "pick_device", lambda name: GPU)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = check_server(config_of(tmp_path, f"{{kind: vllm-server, gpus: {gpus}, memory: {memory}}}"), GPU)
    assert found is not None and (found.check, found.level) == ("e_step.engine", level)
    assert said in found.text
    with pytest.raises(ConfigError, match="the run itself trains on"):
        check_server(config_of(tmp_path, f"{{kind: vllm-server, gpus: [{(visible or '0')[0]}]}}"), GPU)
