"""The session of docs/tutorial.md, command after command, on documents made here."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli import app

PAGE = Path(__file__).parents[2] / "docs/tutorial.md"
TOWNS = ("Aldern", "Brill", "Corvan", "Dunmore", "Estrel", "Farrow", "Gant", "Holm")
CRAFTS = ("glass", "rope", "paper", "clocks", "salt", "boats", "bells", "ink")
QUICK = ["iterations=1", "e_step.samples=2", "evaluation.samples=2", "evaluation.tight_samples=null"]


def make_data(folder: Path) -> None:
    (folder / "handbook").mkdir()
    asked = []
    for i, (town, craft) in enumerate(zip(TOWNS, CRAFTS, strict=True)):
        text = f"# {town}\n\nThe workshop in {town} makes {craft}. It opened in {1901 + i}.\n"
        (folder / "handbook" / f"{town.lower()}.md").write_text(text)
        asked.append({"question": f"What does the workshop in {town} make?", "answers": [craft]})
        asked.append({"question": f"When did the workshop in {town} open?", "answers": [str(1901 + i)]})
    (folder / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in asked))


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("ragdro ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
def test_the_session_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert [words[0] for words in commands()].count("train") == 2
    for words in commands():
        trains = words[0] == "train" and "--dry-run" not in words
        done = CliRunner().invoke(app, [*words, *QUICK] if trains else words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
        if "--dry-run" in words:
            assert done.stdout.splitlines()[-1] == "0 problems", done.stdout
    assert (tmp_path / "runs/my/report.html").is_file()
