"""The script that compares one search with two on the embedded world, at a size that trains in seconds."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from ragdro.types import Candidates, Passage, Prediction, Question, QuestionPath, Round, Selection, Task

SCRIPT = Path(__file__).parents[2] / "reproductions/far.py"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script takes the world from the file beside it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


def prediction(query: str, answer: str, hops: int = 2) -> Prediction:
    """Two passages read, in two rounds; the second is the one that a two-hop question needs."""
    first, second = Passage("a", "Bazor", "Bazor lives in Gizan", True), Passage("b", "Gizan", "a wolf", True)
    gold = (first, second) if hops == 2 else (second,)
    question = Question("q", "What animal?", ("wolf",), gold, hops=hops)
    rounds = [Round("What animal?", (), Candidates("q", (first,)), (0,))]
    rounds.append(Round(query, (1,), Candidates("q", (second,) if query else ()), (0,) if query else ()))
    read = tuple(p for one in rounds for p in one.candidates.passages)
    selection = Selection(tuple(range(len(read))), None, 2, QuestionPath(tuple(rounds)))
    return Prediction(Task(question, Candidates("q", read)), selection, answer)


def test_what_is_counted() -> None:
    scores = runpy.run_path(str(SCRIPT))["scores"]
    predictions = [prediction("Gizan crest", "wolf"), prediction("", "hare"), prediction("Bazor", "wolf", 1)]
    assert scores(predictions) == {
        "two_hop": 0.5,
        "one_hop": 1.0,
        "full_recall": pytest.approx(2 / 3),
        "named": 0.5,
        "searches": pytest.approx(5 / 3),
    }


@pytest.mark.slow
def test_the_script_trains_each_variant_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--variants", "one", "two, stop", "--seeds", "0", "--iterations", "1", "--questions", "6"]
    arguments += ["--answering", "marginal"]

    def rows() -> list[list[str]]:
        monkeypatch.setattr(sys, "argv", ["far.py", str(tmp_path / "out"), *arguments])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines][1:]

    first = rows()
    ways = ("", ": marginal", ": marginal less greedy")
    variants = ("one", "two, stop")
    assert [row[0] for row in first[:6]] == [f"{name}{way}" for name in variants for way in ways]
    assert first[0][4] == "–" and float(first[0][5]) == 1.0 and 1.0 <= float(first[4][5]) <= 2.0
    greedy, marginal, less = (float(first[i][1]) for i in (3, 4, 5))
    assert less == pytest.approx(marginal - greedy, abs=2e-3)
    ways = ("greedy", "marginal", "marginal less greedy")
    header, *worth = first[6:]
    assert header[1:3] == ["exact_match", "risk_coverage_area"]
    assert [row[0] for row in worth] == [f"{name}: {way}" for name in variants for way in ways]
    for greedy_row, marginal_row in (worth[:2], worth[3:5]):
        for _, exact_match, area, least, *_ in (greedy_row, marginal_row):
            assert float(least) <= float(area) <= 1.0 and float(least) <= 1 - float(exact_match)
    # the last rows' exact match is that of all questions, which the first rows have by hops
    kept: dict[str, Any] = json.loads((tmp_path / "out/two-stop-0.json").read_text())
    of_hops = [kept["answering"]["marginal"][name] for name in ("two_hop", "one_hop")]
    assert min(of_hops) - 1e-3 <= float(worth[4][1]) <= max(of_hops) + 1e-3
    saved: dict[str, Any] = json.loads((tmp_path / "out/two-stop-0.json").read_text())
    assert saved["validation"]["best"]["questions"] == 6
    path = tmp_path / "out/one-0.json"
    row = {**json.loads(path.read_text()), "two_hop": 0.125}
    row["answering"]["marginal"].pop("confidence")  # as rows of an earlier version have it
    path.write_text(json.dumps(row))
    again = rows()
    assert again[0][1] == "0.125" and again[6:9] == first[6:9]


@pytest.mark.slow
def test_what_is_taught_first_is_trained_from_there(tmp_path: Path) -> None:
    """The frozen row is the warm-up that the trained one begins with: without an update both are alike."""
    script = runpy.run_path(str(SCRIPT))
    trained = script["settings"]("two, taught", 0, 1)
    frozen = script["settings"]("two, taught, frozen", 0, None)
    assert frozen.iterations == 0 and frozen.warm_up.selector and trained.warm_up.selector is None
    assert trained.train_rewriter and not trained.train_selector and not trained.train_generator
    still = trained.model_copy(update={"train_rewriter": False})
    rows = [script["trained"](given, 6, tmp_path / "warm.pt") for given in (frozen, still)]
    assert (tmp_path / "warm.pt").is_file()
    columns = set(script["COLUMNS"]) - {"seconds"}
    assert [rows[0][column] for column in columns] == [rows[1][column] for column in columns]
