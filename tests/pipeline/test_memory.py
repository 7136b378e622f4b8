"""Out of memory at any step: one line with the next command, and that command finishes the run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ragdro
from ragdro.cli import main
from ragdro.errors import OutOfMemoryError
from ragdro.lm.model import LanguageModel
from ragdro.training.memory import is_out_of_memory, limited_by
from tests.pipeline.test_train import write_config

_ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: not enough memory: you tried to"
        " allocate 8589934592 bytes."
    ),
    "linux": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
        " to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)"
    ),
}
_LIMITS = {
    "warm_up.selector": "warm_up: update of the selector",
    "m_step.generator": "iteration-1: update of the generator",
    "e_step": "iteration-1: E-step",
    "evaluation": "measuring",
}
_FITTING = 500
"""Tokens that this machine has room for: more than any one sequence here, and than two branches compared."""
_FITS = ("warm_up.selector", "warm_up.generator", "m_step.selector", "m_step.generator")


@pytest.fixture
def small_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass of more tokens than fit raises the error of that name."""
    decode = LanguageModel._decode

    def limited(self: LanguageModel, tokens: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        if tokens.numel() > _FITTING:
            raise _ERRORS[request.param]()
        return decode(self, tokens, *rest, **named)

    monkeypatch.setattr(LanguageModel, "_decode", limited)


def ragdro_says(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[int, str]:
    """Exit code and the last line on standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["ragdro", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    error: str = capsys.readouterr().err
    return int(left.value.code or 0), (error.rstrip().splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("section", "small_machine"),
    zip(_LIMITS, ["cuda", "cpu", "linux", "cuda"], strict=True),
    indirect=["small_machine"],
)
@pytest.mark.usefixtures("small_machine")
def test_the_line_names_the_setting_and_its_command_finishes_the_run(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, iterations=1)
    key = f"{section}.max_tokens_per_micro_batch"
    words = ["train", str(config), f"data.validation={tmp_path}/train.jsonl"]
    for one in (*_FITS, "e_step", "evaluation"):
        words += [f"{one}.max_tokens_per_micro_batch={2000 if one == section else 400}"]
    words += [f"{fit}.batch_size=4" for fit in _FITS]
    tried = 2000
    while (said := ragdro_says(words, monkeypatch, capsys))[0]:
        code, line = said
        expected = f"ragdro: error: {_LIMITS[section]}: out of memory with {key}={tried}; "
        assert code == 1 and line.startswith(expected)
        command = line.partition("resume with: ")[2]
        tried //= 2
        assert command.endswith(f"--resume {key}={tried}") and command.count(key) == 1
        words = shlex.split(command)[1:]
        assert tried > 100
    assert tried < 2000 and (tmp_path / "runs/run/results.json").is_file()


def test_models_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise _ERRORS["cuda"]()

    monkeypatch.setattr("ragdro.runs.setup.load_pair", load)
    with pytest.raises(OutOfMemoryError, match="loading: out of memory; take device=cpu"):
        ragdro.run(ragdro.load_config(write_config(tmp_path)))
    assert not (tmp_path / "runs").exists()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), limited_by("work", "key", 8):
        raise RuntimeError("shape mismatch")
    assert not is_out_of_memory(ValueError("out of memory")) and is_out_of_memory(MemoryError())


def test_what_torch_really_says_on_this_machine_is_known() -> None:
    with (
        pytest.raises(OutOfMemoryError, match="work: out of memory with key=8"),
        limited_by("work", "key", 8),
    ):
        torch.empty(2**60, dtype=torch.uint8)
