"""A run's page: what changed, by hand; and a run whose data is hostile."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ragdro.errors import DataError
from ragdro.evaluation.significance import Interval
from ragdro.report.changes import find_changes
from ragdro.report.choices import chosen, in_words, included, ordinal
from ragdro.report.errors import NOT_FOUND, NOT_SELECTED, READ, errors, fault
from ragdro.report.evidence import judge, read_evidence
from ragdro.report.figures import loss_panels, run_panels, warm_up_caption
from ragdro.report.history import read_history
from ragdro.report.predictions import print_example, read_records
from ragdro.report.run_page import write_report
from ragdro.report.sections import whose_fault
from ragdro.report.tables import print_results, results_table, validation_table
from ragdro.report.verdict import print_verdict
from ragdro.runs.status import finished_results, read_results
from ragdro.types import Candidates, Passage, Question, Task
from tests.unit.report.test_table_html import EVIL, Tags
from tests.unit.studies.folders import write_run


def prediction(number: int, right: bool) -> dict[str, Any]:
    passage = {"id": "p", "title": EVIL, "text": EVIL, "probability": 0.5, "rank_in_candidates": 1}
    answer = "gold" if right else EVIL
    return {
        "id": f"q{number}", "question": f"{number}: {EVIL}", "answer": answer, "answers": ["gold"],
        "exact_match": float(right), "f1": float(right), "selection": [passage] * 5, "hops": 1 + number % 2,
        "full_recall": float(number % 2), "answer_read": 1.0, "answer_in_candidates": 1.0, "k_precision": 0.5,
        "gold_in_candidates": float(number > 0),
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


def test_every_wrong_answer_is_listed_with_whose_fault_it_is(run: Path) -> None:
    """At the best iteration question 1 alone is wrong: what it needs was read."""
    records = read_records(run, "iteration-2")
    page = errors(records)
    assert page.count("<details") == 1 and f'data-sort="{READ}"' in page and "1: " in Tags(page).said
    assert Tags(page).said.count(READ) == 2  # a choice and a tag
    assert f" not gold {READ}" in Tags(page).said
    every = errors(read_records(run, "vanilla_rag"))
    assert every.count("<details") == 4
    assert [fault(r) for r in read_records(run, "vanilla_rag")] == [NOT_FOUND, READ, NOT_SELECTED, READ]
    assert "chosen 2nd with probability 0.50, given the first; 1st of the retriever" in Tags(every).said
    assert errors([record for record in records if record["exact_match"]]) == "<p>None.</p>\n"


def test_a_probability_says_what_it_is_of() -> None:
    assert chosen(0, 0.98) == "chosen 1st with probability 0.98"
    assert chosen(2, 0.5) == "chosen 3rd with probability 0.50, given the first 2"
    assert chosen(1, None) == "read 2nd, in the retriever's order"
    assert included({"inclusion": 0.984, "inclusion_error": 0.005}) == "in the list: 0.98 ± 0.01"
    assert included({"inclusion": 1.0, "inclusion_error": 0.0}) == "in the list: 1.00"
    assert included({"probability": 1.0}) == ""


def test_what_a_probability_is_of() -> None:
    entry = {"probability": 0.91}
    ranked = {**entry, "inclusion": 0.97, "inclusion_error": 0.02}
    assert (
        in_words({}, 1, ranked)
        == "chosen 2nd with probability 0.91, given the first; in the list: 0.97 ± 0.04"
    )
    assert in_words({"probability_of": "first_choice"}, 1, entry) == "chosen 2nd with probability 0.91"
    assert in_words({"probability_of": "inclusion"}, 1, entry) == "read 2nd; in the list: 0.91"
    assert in_words({"probability_of": "inclusion"}, 1, ranked) == "read 2nd; in the list: 0.97 ± 0.04"
    assert in_words({}, 1, {"probability": None}) == "read 2nd, in the retriever's order"
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip


def test_whose_fault_by_hops_as_a_table(run: Path) -> None:
    said = Tags("".join(whose_fault(read_records(run, "iteration-2"), "test"))).said
    assert "test questions" in said and "1-hop" in said and "2-hop" in said
    rows = re.findall(r"<tr><td>(.*?)</tr>", "".join(whose_fault(read_records(run, "iteration-2"), "test")))
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in rows]
    assert cells[0] == ["all", "4", "1", "1", "2", "0", "0.500", "1.000"]
    assert cells[1] == ["1-hop", "2", "0", "0", "2", "0", "–", "1.000"]
    assert cells[2] == ["2-hop", "2", "1", "1", "0", "0", "0.500", "–"]
    assert cells[3][-1] == "0.750"  # the ceiling


def test_what_is_reported_and_what_chose_are_two_tables(run: Path) -> None:
    title, table = validation_table(run)
    assert title == "What chose the best: 10 validation questions" and "bound" in table.columns
    assert "bound" not in results_table(run).columns and "ESS" not in results_table(run).columns
    assert [row[0] for row in table.rows] == ["warm-up", "iteration 1", "iteration 2 *", "iteration 3"]


def test_the_evidence_has_as_many_lists_as_the_last_e_step(run: Path) -> None:
    """Replayed lists count, and so do all passages of `objective: marginal`, whatever e_step.samples says."""
    assert read_evidence(run).samples == read_history(run).config.e_step.samples
    path = run / "metrics.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    more = [{**r, "samples": 21} if r["event"] == "e_step" else r for r in records]
    path.write_text("".join(json.dumps(r) + "\n" for r in more))
    found, measured = read_evidence(run), read_history(run).config.evaluation.samples
    assert (found.samples, found.held_out_samples) == (21, measured)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        re.sub(r"(?m)^objective:\n(  .*\n)*", "", config) + "objective: marginal\n"
    )
    assert read_evidence(run).held_out_samples == 21


def test_a_terminal_of_80_columns_shows_the_table_and_the_verdict_whole(run: Path) -> None:
    console = Console(force_terminal=True, width=80, record=True, color_system=None, highlight=False)
    print_results(run, console)
    print_verdict(judge(run), console)
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    assert "10 test questions; bound and ESS: 10 validation questions" in " ".join(shown.split())
    assert "vanilla RAG" in shown and "try next" in shown and "one seed" in shown


def test_the_warm_up_does_not_flatten_the_curves(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "far", [0.5, 0.6, 0.7], [-40.0, -1.0, -0.9])
    for stage in ("vanilla_rag", "warm_up", "iteration-1", "iteration-2"):
        lines = [json.dumps(prediction(i, bool(i))) for i in range(4)]
        (folder / f"predictions-{stage}.jsonl").write_text("\n".join(lines) + "\n")
    answers, reading, bound, size = run_panels(folder)
    assert [x for x, _ in bound.series[0].points] == [1.0, 2.0] and "−40" in warm_up_caption(folder)
    assert [x for x, _ in answers.series[0].points] == [0.0, 1.0, 2.0]
    (mark,) = reading.marks
    assert mark == ("ceiling of the candidates", 0.75) and "10 validation questions" in size.title
    assert isinstance(answers.series[0].points[0][1], Interval)
    titles = [panel.title for panel in loss_panels(read_history(folder))]
    assert titles == []  # these updates have no loss


def test_a_report_that_was_killed_leaves_nothing_behind_when_the_run_is_resumed(run: Path) -> None:
    (run / ".report.html.0.tmp").write_text("half a page")
    config = read_history(run).config
    assert finished_results(config, overwrite=False, resume=True) == read_results(run)
    assert not list(run.glob(".*.tmp"))


def test_what_is_only_one_is_no_plural_and_no_stage_is_shown_twice(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads((run / "results.json").read_text())
    results["warm_up"]["questions"], results["best"]["iteration"] = 1, 0
    (run / "results.json").write_text(json.dumps(results))
    print_results(run)
    passages = (Passage("p", "", "text"),)
    tasks = [Task(Question(f"q{i}", "?", ("gold",)), Candidates(f"q{i}", passages)) for i in range(4)]
    print_example(run, tasks)
    said = capsys.readouterr().out
    assert "1 test question;" in said and said.count("read from") == 1 and "iteration 0" not in said


@pytest.mark.parametrize("place", ["iterations", "best"])
def test_results_of_another_version_are_one_line(run: Path, place: str) -> None:
    results = json.loads((run / "results.json").read_text())
    del (results["best"] if place == "best" else results["iterations"][1])["iteration"]
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match=r"results.json: does not say 'iteration'.*another version"):
        write_report(run)
    assert not (run / "report.html").exists()


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
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert tags.tags.count("script") == 1 and f"script-src 'sha256-{digest}'" in page
    assert script.startswith("for (const box of") and not any(
        name.startswith("on") for name, _ in tags.attributes
    )
    assert {value or "" for name, value in tags.attributes if name in ("src", "href")} == {
        value for name, value in tags.attributes if name == "src" and (value or "").startswith("data:image/")
    }
    for said in ("iteration 2 *", "−1.000", "Put right", "(2 of 4)", "unreadable", "train_selector: true",
                 "than vanilla RAG",
                 "Remaining errors: 1 of 4 test questions", "tiny:base", "Whose fault"):  # fmt: skip
        assert said in tags.said
    assert tags.tags.count("img") == 5  # four curves, a study
    assert tags.tags.count("h2") >= 8 and tags.tags.count("h1") == 1
