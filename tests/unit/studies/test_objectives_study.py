"""The comparison of objectives: paired by question and by seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ragdro.config.objective import objective_kinds
from ragdro.studies.objectives import OBJECTIVES, OBJECTIVES_STUDY, paired_table
from ragdro.studies.plan import plan
from ragdro.studies.records import Run
from tests.unit.studies.folders import CONFIG, run


def answered(folder: Path, right: set[int]) -> Run:
    """A run whose best iteration answers these of ten questions."""
    made = run(folder, [0.0, len(right) / 10])
    lines = [
        json.dumps({"id": f"q{i}", "answer": "", "answers": [""], "exact_match": float(i in right)})
        for i in range(10)
    ]
    (folder / "predictions-iteration-1.jsonl").write_text("\n".join(lines) + "\n")
    return made


def test_p_values_are_those_of_all_sign_patterns_with_holm(tmp_path: Path) -> None:
    ours = {s: answered(tmp_path / f"a{s}", {0, 1, 2, 3, 4, 5}) for s in (0, 1)}
    worse = {s: answered(tmp_path / f"b{s}", {0}) for s in (0, 1)}
    near = {s: answered(tmp_path / f"c{s}", {0, 1, 2, 3, 4}) for s in (0, 1)}
    table = paired_table({"dro": ours, "worse": worse, "near": near})
    rows = {row[0]: row[1:] for row in table.rows}
    # five questions differ, all one way: 2 of the 2^5 patterns reach it; one differs: p = 1
    assert rows["worse"][1] == pytest.approx(2 / 32) and rows["worse"][2] == pytest.approx(4 / 32)
    assert rows["near"][1:] == (1.0, 1.0)
    assert rows["worse"][0].mean == pytest.approx(-0.5)  # type: ignore[union-attr]
    outcome = OBJECTIVES_STUDY.conclude({"dro": ours, "worse": worse, "near": near})
    gains = dict(outcome.panels[1].series[0].points)
    assert outcome.panels[1].categories == ("worse", "near") and gains[1.0] == pytest.approx((-0.1,) * 3)


def test_every_objective_has_a_row_and_the_same_budget() -> None:
    runs = plan(OBJECTIVES_STUDY, CONFIG, seeds=(0,)).runs
    kinds = {run.config.objective.kind for run in runs}
    assert kinds == set(objective_kinds())
    budgets = {(r.config.e_step.samples, r.config.e_step.questions, r.config.iterations) for r in runs}
    assert len(budgets) == 1 and len(runs) == len(OBJECTIVES)
