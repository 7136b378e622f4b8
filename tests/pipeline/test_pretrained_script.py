"""`reproductions/pretrained.py`: its data from small files of the same form, and the config of every row."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ragdro.data import read_questions

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "reproductions/pretrained.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("pretrained", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    return module


def asked(name: str) -> str:
    texts = ["Ostrey is a town.", f"The mill of {name} was built by Teme.", "Rain fell."]
    passages = [{"title": f"{name} {i}", "text": t, "gold": i == 1} for i, t in enumerate(texts)]
    question = {"id": name, "question": "Who built the mill?", "answers": ["Teme"], "passages": passages}
    return json.dumps(question) + "\n"


@pytest.mark.parametrize("name", ["hotpotqa", "2wiki", "nq", "musique"])
def test_questions_held_out_are_kept_apart_and_every_row_resolves(
    script: ModuleType, name: str, tmp_path: Path
) -> None:
    spec = script.SETS[name]
    for number, path in enumerate([*spec["train"], spec["test"], *spec.get("corpus", [])]):
        file = tmp_path / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(asked(f"{number}-{i}") for i in range(300))
        if path in spec.get("corpus", []):
            text = json.dumps({"id": f"p{number}", "title": "A", "text": "A mill."}) + "\n"
        with gzip.open(file, "wt") if file.suffix == ".gz" else file.open("w") as written:
            written.write(text)
    options = argparse.Namespace(runs=tmp_path / "runs", device="cpu", threads=1, overrides=[])
    for size in script.SIZES:
        options.size = size
        keys = script.prepare(tmp_path / "data", tmp_path / "runs/data", name, size)
        for row in script.ROWS:
            config = script.config_of(row, name, keys, options)
            assert config.name == f"{name}-{row}" and config.selector.pointer.score == "attention"
            assert (config.selector.kind == "list") == (row in ("list", "dro-list"))
            assert (config.warm_up.start is None) == (row in script.NAMES)
        splits = {
            part: {q.id for q in read_questions(getattr(config.data, part))}
            for part in ("train", "validation", "test")
        }
        kept_out = spec.get("kept_out", 0)
        assert len(splits["validation"]) == script.VALIDATION[size] and len(splits["test"]) == 300 + kept_out
        assert len(splits["train"]) == 300 * len(spec["train"]) - 200 - kept_out
        assert not splits["validation"] & splits["test"]
        assert not splits["train"] & splits["validation"] and not splits["train"] & splits["test"]
    script.SETS[name]["kept_out"] = 10  # other questions than were asked for before: they are made anew
    script.prepare(tmp_path / "data", tmp_path / "runs/data", name, size)
    spec["kept_out"] = kept_out
    assert len(list(read_questions(tmp_path / f"runs/data/{name}-test.jsonl"))) == 310


def test_a_row_whose_best_is_the_warm_up_stays_in_the_table(script: ModuleType, tmp_path: Path) -> None:
    """Else the table would show the runs that came out well alone."""
    best = {"iteration": 0, "bound": -7.0}
    results = {"vanilla_rag": {}, "warm_up": {"bound": -7.0}, "iterations": [], "best": best}
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "predictions-warm_up.jsonl").write_text('{"id": "a"}\n')
    assert script.stages(tmp_path, "dro") == {"dro, iteration 0, best": (best, [{"id": "a"}])}


def test_a_table_of_nothing_is_empty(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, tmp_path, "--runs", tmp_path / "runs", "--table"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
