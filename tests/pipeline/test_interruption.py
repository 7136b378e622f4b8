"""What a person or a disk does to a run in the middle: one clear line, nothing half-written."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.test_train import write_config


def start(config: Path, *overrides: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ragdro", "train", str(config), *overrides]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_ctrl_c_ends_in_one_line_and_130(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=5000, patience=None)
    running = start(config)
    begun = tmp_path / "runs" / "run" / "checkpoints" / "iteration-1"
    for _ in range(2400):
        if begun.exists() or running.poll() is not None:
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=120)
    assert running.returncode == 130
    assert told.rstrip().endswith("ragdro: error: interrupted") and "Traceback" not in told
    assert not (tmp_path / "runs" / "run" / "results.json").exists()
    assert not list((tmp_path / "runs").rglob("*.tmp"))


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_disk_that_refuses_ends_in_one_line_and_2(kilobytes: int, tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the same calls fail in the same places."""
    config = write_config(tmp_path)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    running = start(config, preexec_fn=limited)
    _, told = running.communicate(timeout=300)
    last = told.rstrip().splitlines()[-1]
    assert running.returncode == 2
    assert last.startswith("ragdro: error: ") and "large" in last.lower() and "Traceback" not in told
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "runs" / "run" / "results.json").exists()
