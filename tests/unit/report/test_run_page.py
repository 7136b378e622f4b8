"""A run's page: what changed, by hand; and a run whose data is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ragdro.errors import DataError
from ragdro.report.changes import find_changes
from ragdro.report.run_page import write_report
from tests.unit.report.test_table_html import EVIL, Tags
from tests.unit.studies.folders import write_run


def prediction(number: int, right: bool) -> dict[str, Any]:
    passage = {"id": "p", "title": EVIL, "text": EVIL, "probability": 0.5, "rank_in_candidates": 1}
    answer = "gold" if right else EVIL
    return {
        "id": f"q{number}", "question": f"{number}: {EVIL}", "answer": answer, "answers": ["gold"],
        "exact_match": float(right), "f1": float(right), "selection": [passage] * 5,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of four questions, by stage (the second iteration is best, though not the last)."""
    folder = write_run(tmp_path / "run", [0.5, 0.25, 0.75, 0.5], [-3.0, -2.0, -1.0, -1.5])
    right = {"vanilla_rag": [], "warm_up": [0, 1], "iteration-1": [3], "iteration-2": [0, 2, 3],
             "iteration-3": [0, 2]}  # fmt: skip
    for stage, numbers in right.items():
        lines = [json.dumps(prediction(i, i in numbers)) for i in range(4)]
        (folder / f"predictions-{stage}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def ids(changes: list[Any]) -> list[str]:
    return [change.after["id"] for change in changes]


def test_what_changed_is_found_by_stage(run: Path) -> None:
    changes = find_changes(run)
    assert changes.questions == 4 and ids(changes.put_right) == ["q2", "q3"]
    assert ids(changes.spoilt) == ["q1"] and ids(changes.right_for_a_time) == ["q3"]
    assert changes.right_for_a_time[0].between == "iteration 1"
    (run / "predictions-iteration-1.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"predictions-iteration-1\.jsonl:1"):
        find_changes(run)


def test_a_page_holds_everything_and_runs_nothing(run: Path, tmp_path: Path) -> None:
    study = tmp_path / "studies" / "own"
    study.mkdir(parents=True)
    (study / "figure.svg").write_text("<svg onload='alert(1)'/>")
    record = {"study": "own", "command": EVIL, "findings": [EVIL], "notes": [],
            "tables": {EVIL: {"columns": ["", EVIL], "rows": [[EVIL, "1"]]}}}  # fmt: skip
    (study / "study.json").write_text(json.dumps(record))
    (tmp_path / "studies" / "torn").mkdir()
    (tmp_path / "studies" / "torn" / "study.json").write_text("{")
    page = write_report(run).read_text()
    tags = Tags(page)
    assert "script" not in tags.tags and not any(name.startswith("on") for name, _ in tags.attributes)
    assert {value or "" for name, value in tags.attributes if name in ("src", "href")} == {
        value for name, value in tags.attributes if name == "src" and (value or "").startswith("data:image/")
    }
    for said in ("iteration 2 *", "-1.500", "Put right", "(2 of 4)", "unreadable", "train_selector: true"):
        assert said in tags.said
    assert tags.tags.count("img") == 5 and tags.tags.count("h1") == 1
