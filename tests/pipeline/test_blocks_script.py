"""`reproductions/blocks.py`: ways to read that are trained on the same lists, and their table."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ragdro.data import read_questions

SCRIPT = Path(__file__).parents[2] / "reproductions/blocks.py"
TINY = [
    *(f"{role}.{key}" for role in ("selector", "generator") for key in ("model=tiny:base", "amp=off")),
    *("selector.layers=null", "generator.adapter=null", "generator.prompt=tiny-generator"),
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("blocks_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(path: Path, count: int) -> Path:
    """Questions of four candidates, of which the last is gold."""
    texts = ["Ostrey is a town.", "Rain fell.", "A mill stands.", "Mara works in Ostrey."]
    passages = [{"id": str(i), "title": "T", "text": t} for i, t in enumerate(texts)]
    asked = {
        "question": "Where does Mara work?",
        "answers": ["Ostrey"],
        "candidates": passages,
        "passages": [{**passages[3], "gold": True}],
    }
    path.write_text("".join(json.dumps({"id": f"q{i}", **asked}) + "\n" for i in range(count)))
    return path


def test_all_ways_answer_from_both_lists_and_are_run_once(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = written(tmp_path / "train.jsonl", 3), written(tmp_path / "test.jsonl", 2)
    keys = [f"data.train={train}", f"data.test={test}", f"data.validation={test}", "data.corpus=null"]
    keys += ["retriever.kind=given", "warm_up.teacher=gold", "top_n=4"]
    monkeypatch.setattr(script, "prepare", lambda *asked: keys)
    (question,) = script.first(str(test), 1)
    lists = [[p.id for p in reading.passages] for reading in script.lists_of(question, "gold")]
    assert lists == [["3", "0", "1"], ["0", "1", "2"]]
    runs = tmp_path / "runs"
    command = ["blocks.py", "DATA", "--sets", "hotpotqa", "--runs", str(runs), "--train", "3", "--test", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--overrides", *TINY])
    script.main()
    said = capsys.readouterr().out
    for row in ("full", "blocks", "blocks-then-full", "blocks-then-full, read with full"):
        assert said.count(f"| {row} | ") == 4
    records = json.loads((runs / "hotpotqa-blocks-then-full.json").read_text())["records"]
    assert [r["id"] for r in records] == [q.id for q in read_questions(test)]
    assert set(records[0]) - {"id", "gold"} == {
        f"{way}, {label}" for way in ("blocks-then-full", "full") for label in ("teacher", "bm25")
    }
    made = []
    monkeypatch.setattr(
        script, "answered", lambda name, way, options: made.append(way) or {"records": records}
    )
    script.main()
    assert capsys.readouterr().out == said[said.index("\nhotpotqa, teacher") :] and not made
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--train", "2", "--ways", "blocks"])
    script.main()
    assert made == ["blocks"]  # of other questions
    assert (
        f"{runs / 'hotpotqa-blocks.json'}: left out, as it was made with other options"
        in capsys.readouterr().out
    )


def test_a_table_by_hand(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for way, answers in (("full", "abcd"), ("blocks", "abxx")):
        rows = [
            {"id": g, "gold": [f"{g} y"], f"{way}, bm25": f"{a} y"}
            for g, a in zip("fbcd", answers.replace("a", "f"), strict=True)
        ]
        (tmp_path / f"nq-{way}.json").write_text(json.dumps({"asked": {}, "records": rows}))
    script.table(tmp_path, "nq")
    said = capsys.readouterr().out
    assert (
        "nq, bm25, exact match, 4 questions\n| full | 1.000 (1.000–1.000) | | |\n| blocks | 0.500 (" in said
    )
    assert "| -0.500 (-1.000 to +0.000) | 0.5000, Holm 0.5000 |" in said
    assert "F1, 4 questions\n| full | 1.000 (1.000–1.000) | | |\n| blocks | 0.750 (" in said
