"""`reproductions/searches.py` with the embedded model: both rows, the table, and data of another place."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ragdro.data import read_questions
from ragdro.errors import RagdroError
from ragdro.runs.status import read_results
from ragdro.sources import resolve

SCRIPT = Path(__file__).parents[2] / "reproductions/searches.py"
TINY = [
    *(
        f"{role}.{key}"
        for role in ("selector", "generator", "rewriter")
        for key in ("model=tiny:base", "amp=off")
    ),
    *("selector.layers=null", "generator.adapter=null", "generator.prompt=tiny-generator"),
    *("warm_up.selector.epochs=1", "evaluation.samples=1", "evaluation.questions=3", "e_step.samples=2"),
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("searches_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_VALIDATION", 2)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The embedded world that has to be asked twice, laid out as a set."""
    lines = {
        part: Path(resolve(f"tiny:far-{part}")).read_text().splitlines(keepends=True)
        for part in ("train", "test", "corpus")
    }
    gold = {
        (p["title"], p["text"])
        for line in (*lines["train"][:6], *lines["test"][:3])
        for p in json.loads(line)["passages"]
    }
    passages = [p for p in map(json.loads, lines["corpus"]) if (p["title"], p["text"]) in gold]
    corpus = [json.dumps(p) + "\n" for p in passages] + lines["corpus"][:60]
    files = {
        "multihop/2wiki_dev.jsonl": lines["test"][:3],
        "multihop/2wiki_train.jsonl": lines["train"][:4],
        "more/2wiki_train_472.jsonl.gz": lines["train"][4:6],
        "corpora/2wiki.jsonl": corpus[:30],
        "more/corpus_2wiki_more.jsonl.gz": corpus[20:],  # some of them twice
    }
    for name, own in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
            file.writelines(own)
    return tmp_path / "data"


@pytest.mark.slow
def test_both_rows_are_trained_once_and_compared(
    script: ModuleType,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = tmp_path / "runs"
    command = ["searches.py", str(data), "--sets", "2wiki", "--runs", str(runs), "--threads", "1"]
    without = [key for key in TINY if "rewriter" not in key]
    monkeypatch.setattr(sys, "argv", [*command, "--rows", "one", "--overrides", *without])
    script.main()
    assert "two less one" not in capsys.readouterr().out
    more = ["rewriter.adapter=null", "rewriter.prompt=tiny-rewriter"]
    monkeypatch.setattr(sys, "argv", [*command, "--rows", "two", "--overrides", *TINY, *more])
    script.main()
    said = capsys.readouterr().out
    assert all(f"2wiki, {row}\n" in said for row in ("one", "two"))
    assert all(f"{metric}, two less one: " in said for metric in script.METRICS)
    for row, k in (("one", 4), ("two", 2)):
        records = [json.loads(line) for line in (runs / f"2wiki-{row}/predictions-warm_up.jsonl").open()]
        assert [r["id"] for r in records] == [q.id for q in read_questions(runs / "data/2wiki-test.jsonl")]
        assert all(len(r["selection"]) == k * (r.get("retrievals") or 1) for r in records)
    results = read_results(runs / "2wiki-two")
    assert 1.0 <= results["warm_up"]["retrievals"] <= 2.0
    monkeypatch.setattr(sys, "argv", [*command, "--table"])
    monkeypatch.setattr(script.ragdro, "run", None)
    script.main()
    assert capsys.readouterr().out == said[said.index("\n2wiki, one") :]
    (tmp_path / "other").mkdir()
    with pytest.raises(
        RagdroError, match=r"DATA: .*other here, but .*config\.yaml was made with .*another --runs"
    ):
        script.prepare(tmp_path / "other", runs / "data", "2wiki")


def test_no_question_is_trained_on_that_is_measured(script: ModuleType, data: Path, tmp_path: Path) -> None:
    script.prepare(data, tmp_path / "out", "2wiki")
    parts = {
        part: {q.id for q in read_questions(tmp_path / f"out/2wiki-{part}.jsonl")}
        for part in ("train", "validation", "test")
    }
    assert {part: len(ids) for part, ids in parts.items()} == {"train": 4, "validation": 2, "test": 3}
    assert len(set().union(*parts.values())) == 9


def test_the_difference_is_of_questions_that_both_rows_have(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [{"id": i, "f1": v, "exact_match": 0.0} for i, v in (("a", 0.0), ("b", 0.5), ("c", 1.0))]
    two = [{"id": i, "f1": v, "exact_match": 0.0} for i, v in (("c", 1.0), ("a", 1.0), ("b", 0.0))]
    script.compare({"one": one, "two": two}, script.np.random.default_rng(0))
    said = capsys.readouterr().out
    assert "f1, two less one: +0.167 [" in said and "exact_match, two less one: +0.000 [" in said
    assert "recall_at_3" not in said
