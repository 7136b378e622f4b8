"""The script that measures what a second search could find, on a set small enough to count by hand."""

from __future__ import annotations

import gzip
import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "reproductions/ceilings.py"
CORPUS = [
    ("Arlen", "Arlen is a town that was founded by Mara Dell."),
    ("Mara Dell (baker)", "She came from Vesk and kept bees."),
    ("Oster", "Oster is a hill where people keep goats."),
    ("Firms", "A founder begins a firm, and another founder another."),
]
STEPS = [
    {"question": "Arlen >> founded by", "answer": "Mara Dell"},
    {"question": "#1 >> bees", "answer": "Vesk"},
]


def lines(records: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """Two questions: one whose second passage the first search cannot find, one of one passage."""
    titled = [{"id": f"{i}", "title": title, "text": text} for i, (title, text) in enumerate(CORPUS)]

    def asked(name: str, question: str, *gold: int) -> dict[str, object]:
        passages = [{**titled[i], "gold": True} for i in gold]
        return {"id": name, "question": question, "answers": ["Vesk"], "passages": passages}

    far = asked("far", "Where was the founder of Arlen town born?", 0, 1)
    original = {
        "id": "far",
        "question": far["question"],
        "answer": "Vesk",
        "question_decomposition": STEPS,
        "paragraphs": [
            {"idx": i, "title": title, "paragraph_text": text, "is_supporting": i < 2}
            for i, (title, text) in enumerate(CORPUS)
        ],
    }
    lost = asked("lost", "Where is Nowhere?", 0)
    lost["passages"] = [{"title": "Nowhere", "text": "Not in the corpus.", "gold": True}]
    for name, content in {
        "multihop/musique_dev.jsonl": lines([far, asked("near", "Which hill has the goats?", 2), lost]),
        "multihop/musique_train.jsonl": lines([far]),
        "more/musique_train_508.jsonl.gz": gzip.compress(lines([far])),
        "original/musique_200.jsonl": lines([original]),
        "original/musique_train_100.json": json.dumps([original]).encode(),
        "corpora/musique.jsonl": lines(titled[:3]),
        "more/corpus_musique_more.jsonl.gz": gzip.compress(lines([titled[3], {**titled[0], "id": "again"}])),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_each_oracle_finds_what_it_can(
    kit: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(kit), str(kit / "out"), "--sets", "musique", "--budgets", "2"]
    monkeypatch.setattr(sys, "argv", ["ceilings.py", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert "musique, held out: 2 questions, 4 passages, 1 left out whose gold is not in them" in printed
    assert "musique, taught: 2 questions, 4 passages\n" in printed
    held_out, taught = printed.split("musique, held out")[1].split("musique, taught")

    assert means(held_out) == {
        # The near question is answered by its first passage. The far one has Arlen and the founder first: its
        # second gold passage shares no word with it, and is found by its title, which Arlen's passage names.
        "one": ("0.750", "0.500"),
        "read": ("0.750", "0.500"),
        "copied": ("1.000", "1.000"),
        "missing": ("1.000", "1.000"),
    }
    assert means(taught)["one"] == ("0.500", "0.000") and means(taught)["teacher"] == ("1.000", "1.000")


def means(table: str) -> dict[str, tuple[str, str]]:
    """By row, recall and all gold, without their intervals."""
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| 2 ")]
    return {row[2].strip(): (row[3].split()[0], row[4].split()[0]) for row in rows}
