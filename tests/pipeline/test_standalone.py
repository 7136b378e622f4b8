"""`reproductions/standalone.py`, with random models: who is trained on whom, and what is compared."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

import ragdro
from ragdro.data import read_questions
from ragdro.lm.saving import save_language_model
from ragdro.retrieval.over import retriever_over
from ragdro.retrieval.queries import as_find
from ragdro.types import Passage, Question
from tests.conftest import byte_level, random_model

SCRIPT = Path(__file__).parents[2] / "reproductions/standalone.py"


def records(split: str) -> str:
    """Six dialogues; the last turn of each leaves out what it is about."""
    return "".join(
        json.dumps(
            {
                "id": f"{split}-{i}",
                "context": [f"Do you know {split}{i}?", "A hill.", "Who keeps goats on it?"],
                "response": "Teme does.",
                "knowledge": f"{split}{i} is a hill of Teme.",
            }
        )
        + "\n"
        for i in range(6)
    )


def test_what_is_less_is_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    less = runpy.run_path(str(SCRIPT))["less"]
    shelf = [Passage(str(i), "", f"Hill{i} is green.", True) for i in range(9)]
    questions = [Question(f"q{i}", "it?", ("x",), (shelf[i],)) for i in range(4)]
    find = as_find(retriever_over(shelf))
    queries = [[f"Hill{i}" for i in order] for order in ((0, 8, 8, 8), (0, 1, 2, 8))]
    differences = less(find, questions, *queries)
    assert differences["recall@5, last less first"][0] == 0.5
    _, low, high = differences["recall@5, last less first"]
    assert 0 <= low <= 0.5 <= high <= 1


@pytest.mark.slow
def test_the_rewriter_alone_is_trained_and_measured_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "dev"):
        (tmp_path / f"wow_{split}.jsonl").write_text(records(split))
    save_language_model(random_model(byte_level(), seed=1, max_position_embeddings=1024), tmp_path / "model")
    arguments = ["--model", str(tmp_path / "model"), "--runs", str(tmp_path / "runs"), "--questions", "3"]
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(
        sys, "argv", ["standalone.py", str(tmp_path), *arguments, "--iterations", "1", "--written", "4"]
    )
    runpy.run_path(str(SCRIPT), run_name="__main__")
    _, untrained, trained, less = map(json.loads, capsys.readouterr().out.splitlines())
    assert (untrained["stage"], trained["stage"]) == (0, 1) and trained["questions"] == 4
    difference = trained["recall@20"][0] - untrained["recall@20"][0]
    assert less["recall@20, last less first"][0] == pytest.approx(difference, abs=2e-3)
    config = ragdro.load_config(tmp_path / "runs/standalone/config.yaml")
    assert config.train_rewriter and not config.train_selector and not config.train_generator
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--questions", "2"])
    with pytest.raises(
        SystemExit, match=r"standalone: --questions: 2 here, but .*standalone was made with 3; "
    ):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert config.retrieval.rewrite_first and config.rewriter is not None
    train, validation = (
        {q.id for q in read_questions(tmp_path / f"runs/standalone-data/{part}.jsonl")}
        for part in ("train", "validation")
    )
    assert len(train) == 3 and len(validation) == 2 and not train & validation
