"""`make demo-real`'s questions: whole, in BM25's order, and one line where they are missing."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

from ragdro.config import load_config
from ragdro.data import read_questions

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "reproductions/ten_paragraphs.py"


def prepare(data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, data, out], capture_output=True, text=True, cwd=ROOT)


def record(name: str) -> str:
    texts = ["Ostrey is a town.", f"The mill of {name} was built by Teme.", "A market is held.", "Rain fell."]
    passages = [{"title": f"{name} {i}", "text": t, "gold": i == 2} for i, t in enumerate(texts)]
    asked = "Who built the mill?"
    return json.dumps({"id": name, "question": asked, "answers": ["Teme"], "passages": passages}) + "\n"


def test_candidates_are_the_questions_own_paragraphs_in_bm25s_order(tmp_path: Path) -> None:
    for folder in ("multihop", "more"):
        (tmp_path / folder).mkdir()
    (tmp_path / "multihop/hotpotqa_train.jsonl").write_text(record("a"))
    (tmp_path / "multihop/hotpotqa_dev.jsonl").write_text(record("b"))
    with gzip.open(tmp_path / "more/hotpotqa_train_2226.jsonl.gz", "wt") as file:
        file.write(record("c"))
    done = prepare(tmp_path, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    train = list(read_questions(tmp_path / "out/train.jsonl"))
    assert [q.id for q in train] == ["a", "c"]
    for question in [*train, *read_questions(tmp_path / "out/validation.jsonl")]:
        assert question.candidates is not None
        shown = [p.title for p in question.candidates.passages]
        assert shown == [
            f"{question.id} {i}" for i in (1, 0, 2, 3)
        ]  # the others share no word and keep theirs
        assert [p.title for p in question.gold_passages] == [f"{question.id} 2"]


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    done = prepare(tmp_path, tmp_path / "out")
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert "hotpotqa_train.jsonl is missing" in done.stderr and "DATA=" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_scripts_config_resolves() -> None:
    script = (ROOT / "reproductions/demo-real.sh").read_text()
    words = re.findall(r"(?<=\s)[a-z_.]+=\S+", script.split("cat <<")[0])
    config = load_config(ROOT / "configs/smollm2-135m.yaml", words)
    assert config.name == "demo-real" and config.retriever.kind == "given" and config.data.corpus is None
    assert f"has seen {config.data.train_questions} questions" in script
    assert f"of {config.evaluation.questions} questions" in script
