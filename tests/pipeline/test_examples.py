"""Every file in examples/ runs as it stands and prints what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
EXPECTED = {
    "answer": r"answer: mule\nlog p\(mule\) from all passages: -0\.\d\d nats\n"
    r"log p\(mule\) from the last two: -[1-9]\.\d\d nats\n",
    "load": r"answer: \w*\nread: 5 of 20 candidates\nfrom one passage: \w+\nmany: 2\n",
    "objective": "objective: objective:BestOnly\n",
    "retriever": "2  Risor shows a mule upon its painting\n0  Kepin shows a lobster upon its sculpture\n",
    "train": r"vanilla_rag: exact match 0\.\d\d, full recall 0\.\d\d\n(warm_up|iteration-1): .+\n"
    r"(iteration-1: .+\n)?\w+ is right: \w+\n",
    "weights": r"weights: \[0\.764, 0\.114, 0\.008, 0\.114\]\neffective sample size: 1\.64 of 4\n"
    r"bound: -1\.52 nats\n",
    "rerank": r"chosen  first  inclusion\n(  [01]\.\d\d   [01]\.\d\d  [01]\.\d\d  .+\n){3}"
    r"(  –      [01]\.\d\d  [01]\.\d\d  .+\n){3}",
}


def test_every_example_has_its_output_here() -> None:
    assert {path.stem for path in EXAMPLES} == set(EXPECTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_promises(path: Path, tmp_path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 40 and f"python examples/{path.name}" in source
    code = f"import runpy; module = runpy.run_path({str(path)!r}); module['main'](8, 4, 1)"
    command = [sys.executable, "-c", code] if path.stem == "train" else [sys.executable, path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    printed = "".join(line for line in done.stdout.splitlines(keepends=True) if line.strip())
    assert re.fullmatch(EXPECTED[path.stem], printed), done.stdout
