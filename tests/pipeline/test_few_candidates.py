"""A whole run over questions that come with fewer passages than are selected."""

from __future__ import annotations

import json
from pathlib import Path

import ragdro
from tests.pipeline.test_train import jsonl, write_config


def test_questions_with_fewer_paragraphs_than_k_are_trained_on_and_measured(tmp_path: Path) -> None:
    """As in HotpotQA's own files, where a question may come with fewer paragraphs than the config's K."""
    questions = [
        {
            "id": f"q{i}",
            "question": f"Where does Mara{i} work?",
            "answers": [f"Firm {i}"],
            "passages": [
                {"title": f"Firm {j}", "text": f"Mara{j} works for Firm {j}.", "gold": j == i}
                for j in range(i, i + count)
            ],
        }
        for i, count in enumerate([4, 1, 10, 2, 1, 7])
    ]
    path = write_config(tmp_path, retriever={"kind": "given"}, top_n=10)
    jsonl(tmp_path / "train.jsonl", questions[:4])
    jsonl(tmp_path / "validation.jsonl", questions[4:])
    ragdro.run(ragdro.load_config(path, ["selector.k=5", "iterations=1"]))
    run = tmp_path / "runs/run"
    results = json.loads((run / "results.json").read_text())
    for metrics in (results["vanilla_rag"], results["warm_up"], results["iterations"][0]):
        assert metrics["recall_at_5"] is not None and metrics["questions"] == 2
    lines = (run / "predictions-iteration-1.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["selection"]) for line in lines] == [1, 5]
