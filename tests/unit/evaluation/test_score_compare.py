"""Scoring, comparing and exporting files, through the commands, on metrics worked by hand."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from ragdro.cli.data import compare as compare_command
from ragdro.cli.data import score as score_command
from ragdro.errors import DataError
from ragdro.evaluation.compare import as_lines, compare
from ragdro.evaluation.export import export_predictions
from ragdro.evaluation.predictions import read_predictions
from tests.unit.data import originals as o
from tests.unit.evaluation.test_official import dump, scored

GOLD = [
    {
        "id": str(n),
        "question": f"q{n}",
        "answers": [f"answer {n}", "other"],
        "passages": [
            {"title": "T", "text": f"here is answer {n}", "gold": True},
            {"title": "T", "text": "also needed", "gold": True},
            {"title": "T", "text": "not needed", "gold": False},
        ],
    }
    for n in range(4)
]


def run_record(n: int, answer: str, selected: list[str]) -> dict[str, Any]:
    selection = [
        {"id": f"c{i}", "title": "T", "text": text, "probability": 0.5, "rank_in_candidates": i + 1}
        for i, text in enumerate(selected)
    ]
    return {
        "id": str(n),
        "question": f"q{n}",
        "answer": answer,
        "answers": GOLD[n]["answers"],
        "exact_match": 0.0,
        "f1": 0.0,
        "selection": selection,
    }


RUN = [
    run_record(0, "Answer 0!", ["here is answer 0", "also needed"]),
    run_record(1, "answer", ["x", "here is answer 1"]),
    run_record(2, "", ["x", "y"]),
]


def app() -> typer.Typer:
    made = typer.Typer()
    made.command("score")(score_command)
    made.command("compare")(compare_command)
    return made


def test_a_run_s_predictions_on_our_own_data(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", GOLD, by_line=True)
    score = scored(data, dump(tmp_path, "predictions-best.jsonl", RUN, by_line=True))
    values = {name: interval.mean for name, interval in score.metrics.items()}
    ideal = 1 + 1 / np.log2(3)
    assert values == pytest.approx(
        {
            "exact_match": 0.25,
            "f1": (1 + 2 / 3) / 4,
            "accuracy": 0.25,
            "rouge_l": (2 * 0.5 / (1.5 + 1e-8)) / 4,  # "answer" of "answer 1"; case and "!" count
            "recall_at_1": 1 / 3,
            "full_recall": 1 / 3,
            "support_precision": (1 + 0.5 + 0) / 3,
            "support_recall": (1 + 0.5 + 0) / 3,
            "support_f1": (1 + 0.5 + 0) / 3,
            "joint_f1": (1 + 2 * 0.5 * 0.25 / 0.75) / 3,
            "ndcg_at_5": (1 + 1 / np.log2(3) / ideal) / 3,
            "map": (1 + 0.25) / 3,
        }
    )
    assert (score.questions, score.missing, score.empty, score.unknown) == (4, 1, 1, 0)
    assert score.official == {} and score.rule == "squad"
    low, high = score.metrics["exact_match"][1:]
    assert 0.0 <= low <= 0.25 <= high <= 1.0


def test_a_list_that_stopped_early_counts_at_the_depths_of_the_others(tmp_path: Path) -> None:
    lists = [["x", "x", "x", "x", "here is answer 0"], ["here is answer 1"], ["x", "y"]]
    rows = [run_record(n, "wrong", own) for n, own in enumerate(lists)]
    said = dump(tmp_path, "said", rows, by_line=True)
    score = scored(dump(tmp_path, "gold", GOLD, by_line=True), said)
    recalls = [score.metrics[f"recall_at_{k}"].mean for k in (1, 3, 5)]
    assert recalls == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    nothing = dump(tmp_path, "none", [{**row, "selection": []} for row in rows[1:]] + rows[:1], by_line=True)
    recall = compare(nothing, said, np.random.default_rng(0), resamples=200)[-1]
    assert (recall.metric, recall.questions, recall.left_out) == ("recall_at_5", 3, 0)
    assert (recall.first, recall.second) == pytest.approx((1 / 3, 2 / 3))


def test_musique_full_ranks_the_instance_that_was_answered(tmp_path: Path) -> None:
    """An unanswerable instance has an answerable one's id and other passages labelled."""
    gold = {
        **o.MUSIQUE,
        "paragraphs": [
            {"idx": i, "title": f"T{i}", "paragraph_text": f"text {i}", "is_supporting": not i}
            for i in range(2)
        ],
    }
    other = copy.deepcopy(gold) | {"answerable": False}
    for paragraph in other["paragraphs"]:
        paragraph["is_supporting"] = not paragraph["is_supporting"]
    selection = [{"id": "a", "title": "T0", "text": "text 0"}, {"id": "b", "title": "T1", "text": "text 1"}]
    rows = [{"id": gold["id"], "answer": "land of VESK", "selection": selection}]
    data = dump(tmp_path, "full", [gold, other], by_line=True)
    score = scored(data, dump(tmp_path, "said", rows, by_line=True))
    assert score.metrics["map"].mean == score.metrics["ndcg_at_5"].mean == 1.0


def test_the_score_command_prints_json_and_exports(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", [o.HOTPOTQA])
    said = dump(tmp_path, "said", [{"id": o.HOTPOTQA["_id"], "answer": "Yes"}], by_line=True)
    out = tmp_path / "exported"
    done = CliRunner().invoke(
        app(),
        [
            "score",
            "--data",
            str(data),
            "--predictions",
            str(said),
            "--json",
            "--export",
            "hotpotqa",
            "--out",
            str(out),
        ],
    )
    assert done.exit_code == 0, done.output
    printed = json.loads(done.output)
    assert (
        printed["exact_match"] == 1.0 and printed["official"]["em"] == 1.0 and printed["rule"] == "hotpotqa"
    )
    assert printed["intervals"]["exact_match"] == [1.0, 1.0]
    assert json.loads(out.read_text()) == {"answer": {o.HOTPOTQA["_id"]: "Yes"}, "sp": {}}
    text = CliRunner().invoke(app(), ["score", "--data", str(data), "--predictions", str(out)]).output
    assert "exact_match" in text and "1.000   [1.000, 1.000]" in text


def test_scoring_imports_no_torch(tmp_path: Path) -> None:
    data = dump(tmp_path, "gold", GOLD, by_line=True)
    said = dump(tmp_path, "said", RUN, by_line=True)
    code = (
        "import sys; from ragdro.cli.data import score\n"
        f"score({str(data)!r}, {str(said)!r}, json_=True)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], capture_output=True
    )


def test_exports_read_back_with_what_they_hold(tmp_path: Path) -> None:
    musique = [{**o.MUSIQUE, "id": "b"}, o.MUSIQUE]
    data = dump(tmp_path, "gold", musique, by_line=True)
    picked = [
        {"id": "c", "title": "Mara Dell", "text": "She was born in Vesk."},
        {"id": "d", "title": "", "text": "x"},
    ]
    rows = [
        {"id": o.MUSIQUE["id"], "answer": "Vesk", "selection": picked},
        {"id": "b", "answer": "", "selection": []},
    ]
    said = dump(tmp_path, "said", rows, by_line=True)
    out = tmp_path / "out"
    assert export_predictions(said, out, "musique", data=data) == 2
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    first = {"id": "b", "predicted_answer": "", "predicted_support_idxs": [], "predicted_answerable": True}
    second = {**first, "id": o.MUSIQUE["id"], "predicted_answer": "Vesk", "predicted_support_idxs": [2]}
    assert lines == [first, second]
    export_predictions(said, out, "kilt")
    again = read_predictions(out)
    assert again.format == "kilt" and [row.answer for row in again.rows] == ["Vesk", ""]
    out = tmp_path / "new" / "2wiki.json"
    export_predictions(said, out, "2wiki")
    written = {"answer": {o.MUSIQUE["id"]: "Vesk", "b": ""}, "sp": {}, "evidence": {}}
    assert json.loads(out.read_text()) == written
    with pytest.raises(DataError, match="has no prediction for question 'b'"):
        only = dump(tmp_path, "only", rows[:1], by_line=True)
        export_predictions(only, tmp_path / "none", "musique", data=data)
    assert not (tmp_path / "none").exists()


def test_two_files_compared_by_hand(tmp_path: Path) -> None:
    first = dump(tmp_path, "a.jsonl", [run_record(n, "wrong", []) for n in range(3)], by_line=True)
    second = dump(tmp_path, "b.jsonl", [run_record(n, f"answer {n}", []) for n in (1, 2, 3)], by_line=True)
    exact, f_one = compare(first, second, np.random.default_rng(0), resamples=200)
    assert (exact.metric, exact.questions, exact.left_out, exact.first, exact.second) == (
        "exact_match",
        2,
        2,
        0,
        1,
    )
    assert (
        exact.difference == (1.0, 1.0, 1.0) and exact.p_value == exact.p_holm == 0.5
    )  # 2 of 4 sign patterns
    assert f_one.metric == "f1" and f_one.second == 1.0
    assert as_lines([exact, f_one]) == [
        "a.jsonl: 2 questions; 2 answered by one of the two only",
        "  exact_match  0.000 → 1.000  +1.000 [+1.000, +1.000]  p 0.5000, Holm 0.5000",
        "  f1           0.000 → 1.000  +1.000 [+1.000, +1.000]  p 0.5000, Holm 0.5000",
    ]
    with pytest.raises(DataError, match="give two run folders or two prediction files, not one of each"):
        dump(tmp_path, "predictions-best.jsonl", [run_record(1, "x", [])], by_line=True)
        compare(first, tmp_path, np.random.default_rng(0))


def test_the_best_stages_of_two_runs_compared(tmp_path: Path) -> None:
    """The files are of different names, and the other stages' are not looked at."""
    runs = [tmp_path / "a", tmp_path / "b"]
    for run, best in zip(runs, (0, 2), strict=True):
        run.mkdir()
        (run / "config.yaml").write_text("")
        results = {"vanilla_rag": {}, "warm_up": {}, "iterations": [], "best": {"iteration": best}}
        (run / "results.json").write_text(json.dumps(results))
        for stage in ("warm_up", "iteration-2"):
            said = "answer 1" if stage == "iteration-2" else "wrong"
            dump(run, f"predictions-{stage}.jsonl", [run_record(1, said, [])], by_line=True)
    words = ["compare", *map(str, runs), "--stage"]
    done = CliRunner().invoke(app(), [*words, "best"])
    assert "  exact_match  0.000 → 1.000" in done.output and done.output.count("1 question\n") == 1
    done = CliRunner().invoke(app(), [*words, "warm-up"])
    assert "  exact_match  0.000 → 0.000" in done.output and done.output.count("1 question\n") == 1
    done = CliRunner().invoke(app(), [*words, "iteration-3"])
    assert "b: iteration-2, warm_up" in str(done.exception)


def test_run_folders_compared_with_holm_over_datasets(tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    rights = {"nq": (0, 4), "hotpotqa": (1, 4), "same": (2, 2)}
    for i, run in enumerate(runs):
        for dataset, right in rights.items():
            (run / dataset).mkdir(parents=True)
            rows = [run_record(n, f"answer {n}" if n < right[i] else "wrong", []) for n in range(4)]
            dump(run / dataset, "predictions-best.jsonl", rows, by_line=True)
    comparisons = compare(*runs, np.random.default_rng(0), resamples=200)
    exact = {entry.dataset: entry for entry in comparisons if entry.metric == "exact_match"}
    assert {name: entry.p_value for name, entry in exact.items()} == {
        "nq/best": 2 / 16,
        "hotpotqa/best": 2 / 8,
        "same/best": 1.0,
    }
    assert {name: entry.p_holm for name, entry in exact.items()} == {
        "nq/best": 3 / 8,
        "hotpotqa/best": 4 / 8,
        "same/best": 1.0,
    }
    done = CliRunner().invoke(app(), ["compare", str(runs[0]), str(runs[1]), "--json"])
    assert done.exit_code == 0 and len(json.loads(done.output)) == 6
    with pytest.raises(DataError, match="of stage 'warm-up'"):
        compare(*runs, np.random.default_rng(0), stage="warm-up")


def test_bare_predictions_need_the_data_to_be_compared(tmp_path: Path) -> None:
    rows = [{"id": str(n), "answer": f"answer {n}"} for n in range(4)]
    first, second = (dump(tmp_path, name, rows[:k], by_line=True) for name, k in (("a", 2), ("b", 4)))
    with pytest.raises(DataError, match="name the data"):
        compare(first, second, np.random.default_rng(0))
    data = dump(tmp_path, "gold", GOLD, by_line=True)
    exact = compare(first, second, np.random.default_rng(0), data=data)[0]
    assert (exact.first, exact.second, exact.questions) == (0.5, 1.0, 4)
    with pytest.raises(DataError, match="no such file or folder"):
        compare(tmp_path / "absent", second, np.random.default_rng(0))
