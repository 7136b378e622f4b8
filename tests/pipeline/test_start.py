"""The session of docs/tutorial.md, command after command, on the documents that it makes."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from ragdro.cli import app
from tests.serving import Server

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text(encoding="utf-8")
QUICK = ["iterations=1", "e_step.samples=2", "evaluation.samples=2", "evaluation.tight_samples=null"]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [code for marked, code in found if marked == language]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("ragdro ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
def test_the_session_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_documents, serve = blocks("sh")
    subprocess.run(["bash", "-euc", make_documents], check=True)
    assert [words[0] for words in commands()].count("train") == 2
    for words in commands():
        trains = words[0] == "train" and "--dry-run" not in words
        done = CliRunner().invoke(app, [*words, *QUICK] if trains else words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
        if "--dry-run" in words:
            assert done.stdout.splitlines()[-1] == "0 problems", done.stdout
    assert (tmp_path / "runs/my/report.html").is_file()
    assert serve == "ragdro serve runs/my\n"
    server = Server(tmp_path / "runs/my")
    try:
        server.wait()
        body = {"question": "What does the workshop in Holm make?"}
        answered = httpx.post(f"{server.address}/v1/answer", json=body, timeout=60).json()
        assert answered["selection"], answered
    finally:
        server.stop()
