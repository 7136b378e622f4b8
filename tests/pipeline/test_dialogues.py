"""The script that asks what a dialogue is searched for with, on dialogues small enough to count by hand."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "reproductions/dialogues.py"
TURNS = [
    (["Tell me of Arlen."], "Arlen has a mill."),  # stands alone: left out
    (["Do you know Oster?", "A hill.", "Who keeps goats on it?"], "Oster is a hill of goats."),
    (["Do you know Vesk?", "A town.", "And what is there?"], "Vesk sells bees."),
]


def test_the_last_turn_lacks_what_the_dialogue_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        {"id": f"{i}", "context": context, "response": "Yes.", "knowledge": known}
        for i, (context, known) in enumerate(TURNS)
    ]
    others = [{**records[0], "id": f"o{i}", "knowledge": f"Kepin{i} is a seal."} for i in range(30)]
    for name, part in (("train", others), ("dev", records)):
        (tmp_path / f"wow_{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in part))
    monkeypatch.setattr(sys, "argv", ["dialogues.py", str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    last, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert last["questions"] == whole["questions"] == 2 and last["passages"] == 33
    assert last["recall@5"] == [0.5, 0.354] and whole["recall@5"] == [1.0, 0.0]
