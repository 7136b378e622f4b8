"""What a person or a disk does to a run in the middle: one clear line, nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from tests.pipeline.crash import Command
from tests.pipeline.test_train import write_config


def test_ctrl_c_ends_in_one_line_and_130(tmp_path: Path) -> None:
    config = write_config(tmp_path, iterations=5000, patience=None)
    running = Command(tmp_path, "train", str(config))
    log = tmp_path / "runs" / "run" / "metrics.jsonl"
    while not (log.exists() and b'"stage": "iteration-1"' in log.read_bytes()):
        assert running.process.is_alive()
        time.sleep(0.05)
    assert running.process.pid is not None
    os.kill(running.process.pid, signal.SIGINT)
    assert running.wait() == 130
    output = running.said
    last = output.rstrip().splitlines()[-1]
    assert last == f"ragdro: error: interrupted; resume with: ragdro train {config} --resume"
    assert "Traceback" not in output
    assert not (tmp_path / "runs" / "run" / "results.json").exists()
    assert not list((tmp_path / "runs").rglob("*.tmp"))


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_disk_that_refuses_ends_in_one_line_and_2(kilobytes: int, tmp_path: Path) -> None:
    """A limit on file sizes stands in for the full disk: the same calls fail in the same places."""
    config = write_config(tmp_path)
    running = Command(tmp_path, "train", str(config), prepare=limit_files, given=kilobytes * 1024)
    assert running.wait() == 2
    output = running.said
    last = output.rstrip().splitlines()[-1]
    assert last.startswith(f"ragdro: error: {tmp_path}/") and "large" in last.lower(), last
    assert "Traceback" not in output
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "runs" / "run" / "results.json").exists()


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
