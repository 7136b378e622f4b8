"""Planned sizes of indexes against files that are written, and shipped configs against what they state."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from benchmarks.retrieval import write_corpus as write_generated
from ragdro.config import load_config
from ragdro.config.retriever import parse_settings
from ragdro.data import read_corpus
from ragdro.errors import ConfigError, ModelError
from ragdro.planning.index import Text, plan_index, plan_index_of, width_of
from ragdro.retrieval import make_retriever
from ragdro.types import Passage
from tests.unit.retrieval.conftest import generated_corpus, random_bert, random_colbert
from tests.unit.retrieval.test_cache import write_corpus

CONFIGS = Path(__file__).parents[3] / "configs"
__all__ = ["random_bert", "random_colbert"]  # fixtures

_IVF = {"type": "ivfpq", "lists": 8, "code_bytes": 8, "training_passages": 256}
_DENSE = {"kind": "dense", "model": "BERT"}
_MUVERA = {"kind": "muvera", "repetitions": 4, "hyperplanes": 2, "projection": 4, "cache_gb": 0}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"kind": "bm25", "stopwords": None},
        _DENSE,
        {"kind": "dense", "model": "BERT", "index": {"type": "hnsw", "neighbours": 8}},
        {"kind": "dense", "model": "BERT", "index": _IVF},
        {"kind": "dense", "model": "BERT", "index": {"type": "pq"}},
        {"kind": "colbert", "model": "COLBERT"},
        {"kind": "colbert", "model": "BERT", "projection": "none"},
        {"kind": "colbert", "model": "COLBERT", "first_stage": _MUVERA},
        {"kind": "colbert", "model": "COLBERT", "first_stage": {**_MUVERA, "index": _IVF}},
        {"kind": "colbert", "model": "COLBERT", "first_stage": {**_MUVERA, "index": {"type": "pq"}}},
        {
            "kind": "hybrid",
            "members": [{"kind": "bm25", "stopwords": None}, {"kind": "dense", "model": "BERT"}],
        },
    ],
    ids=lambda values: "-".join([values["kind"], *map(str, values.get("index", {}).values())]),
)
def test_an_index_takes_the_disk_that_was_planned(
    values: dict[str, Any], random_bert: Path, random_colbert: Path, tmp_path: Path
) -> None:
    named = json.dumps(values).replace("COLBERT", str(random_colbert)).replace("BERT", str(random_bert))
    settings = parse_settings(json.loads(named))
    corpus = generated_corpus(800)
    text = Text.of(len(corpus), corpus[::2])
    retriever = make_retriever(settings)
    retriever.build(corpus, tmp_path / "index")
    planned = plan_index(settings, text)
    assert planned is not None
    assert planned["disk"] == sum(part["disk"] for part in planned["parts"].values())
    assert size_of(tmp_path / "index") == pytest.approx(planned["disk"], rel=0.15)
    assert planned["building"] >= planned["disk"] and planned["memory"] > 0


def test_an_index_of_chinese_takes_the_disk_that_was_planned(tmp_path: Path) -> None:
    """A sentence without spaces has a word for each pair of characters and for each character."""
    draws = random.Random(0)
    letters = [chr(0x4E00 + n) for n in range(40)]
    corpus = [Passage(str(n), "", "".join(draws.choices(letters, k=100))) for n in range(800)]
    text = Text.of(len(corpus), corpus[::2])
    assert (text.words, text.tokens) == (199, 100)
    settings = parse_settings({"kind": "bm25", "stopwords": None})
    make_retriever(settings).build(corpus, tmp_path / "index")
    planned = plan_index(settings, text)
    assert planned is not None
    assert size_of(tmp_path / "index") == pytest.approx(planned["disk"], rel=0.15)


@pytest.mark.parametrize(("passages", "disk", "memory"), [(1_000_000, 683, 1_724), (5_000_000, 3_418, 8_078)])
def test_a_large_bm25_index_is_planned_as_it_was_measured(
    passages: int, disk: float, memory: float, tmp_path: Path
) -> None:
    """MiB of the builds in `benchmarks/README.md`; passages of 20 to 60 words."""
    write_generated(tmp_path / "corpus.jsonl", 1_000, [20, 60])
    text = Text.of(passages, list(read_corpus(str(tmp_path / "corpus.jsonl"))))
    planned = plan_index(parse_settings({"kind": "bm25"}), text)
    assert planned is not None
    assert planned["disk"] / 2**20 == pytest.approx(disk, rel=0.05)
    assert planned["memory"] / 2**20 == pytest.approx(memory, rel=0.05)


def test_what_is_planned_is_the_arithmetic() -> None:
    text = Text(1_000_000, line=500.0, words=100.0, different=60.0, tokens=110.0)
    muvera = {"kind": "muvera", "cache_gb": 30, "shard_size": 1000}
    lists = {"type": "ivfpq", "lists": 1000, "code_bytes": 1280, "training_passages": 50_000}
    settings = parse_settings({"kind": "colbert", "model": "m", "first_stage": {**muvera, "index": lists}})
    planned = plan_index(settings, text)
    assert planned is not None
    vector = 4 * 20 * 32 * 16
    assert planned["parts"]["passages"]["disk"] == 524e6
    assert planned["parts"]["MUVERA vectors"]["disk"] == 1288e6 + 1256 * vector
    assert planned["parts"]["MUVERA vectors"]["memory"] == 3 * 50_000 * vector + 1256 * vector
    assert planned["parts"]["kept vectors"]["disk"] == 30e9
    flat = plan_index(parse_settings({"kind": "colbert", "model": "m", "first_stage": muvera}), text)
    assert flat is not None and flat["memory"] == 1e6 * vector
    for numbers, code, room in ((4, 1280, 2**31), (10, 512, 2**29)):
        codes = {"type": "pq", "numbers_per_code": numbers}
        pq = plan_index(
            parse_settings({"kind": "colbert", "model": "m", "first_stage": {**muvera, "index": codes}}), text
        )
        assert pq is not None and pq["parts"]["MUVERA vectors"] == {
            "disk": 1e6 * code + 16 * vector,
            "building": 2e6 * code + (2 * 16 + 4_096) * vector,
            "memory": 1.5 * room + 16 * vector,
        }


def test_widths_are_those_of_the_models(random_bert: Path, random_colbert: Path, tmp_path: Path) -> None:
    (tmp_path / "stanford").mkdir()
    (tmp_path / "stanford/config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    (tmp_path / "stanford/artifact.metadata").write_text('{"dim": 128}')
    for model, projection, width in (
        (random_bert, "none", 32),
        (random_colbert, "checkpoint", 16),
        (random_colbert, "none", 32),
        (tmp_path / "stanford", "checkpoint", 128),
        (tmp_path / "stanford", "none", 768),
    ):
        settings: Any = parse_settings({"kind": "colbert", "model": str(model), "projection": projection})
        assert width_of(settings) == width
    missing: Any = parse_settings({"kind": "dense", "model": str(tmp_path / "none")})
    with pytest.raises(ModelError, match="no such checkpoint folder"):
        width_of(missing)


def stated(path: Path) -> tuple[int, float, float] | None:
    """Passages, bytes of memory and of disk that a config's head states for its index."""
    pattern = r"^# Index: ([\d,]+) passages; (\d+) GB of memory, (\d+) GB of disk$"
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    if found is None:
        return None
    return int(found[1].replace(",", "")), 1e9 * int(found[2]), 1e9 * int(found[3])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_index_of_a_shipped_config_fits_what_its_head_states(path: Path) -> None:
    config, known = load_config(path), stated(path)
    if known is None:
        assert plan_index(config.retriever, Text(1)) is None
        return
    passages, memory, disk = known
    planned = plan_index_of(config, passages)
    assert planned is not None and planned["passages"] == passages
    assert planned["memory"] <= 0.9 * memory and planned["building"] <= 0.9 * disk
    if config.data.corpus == "tiny:corpus" and passages < 100_000:
        assert plan_index_of(config, None)["passages"] == passages  # type: ignore[index]


def test_all_token_vectors_of_wikipedia_fit_no_such_machine(tmp_path: Path) -> None:
    """What the paper's retriever would take here, and why the configs order what BM25 finds instead."""
    path = CONFIGS / "llama3-8b.yaml"
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    (tmp_path / "artifact.metadata").write_text('{"dim": 128}')
    values = yaml.safe_load(path.read_text())["retriever"]
    whole = {"kind": "colbert", "model": str(tmp_path), "index": {"type": "lance"}}
    assert values["model"] == "colbert-ir/colbertv2.0"
    known = stated(path)
    assert known is not None
    planned = plan_index(parse_settings(whole), Text(known[0], tokens=110.0))
    assert planned is not None and planned["parts"]["token vectors"]["disk"] > 590e9
    assert planned["building"] > 5 * known[2]


def test_what_cannot_be_counted_is_asked_for(tmp_path: Path) -> None:
    tiny = str(CONFIGS / "tiny.yaml")
    corpus = tmp_path / "corpus.jsonl"
    with pytest.raises(ConfigError, match=r"corpus\.jsonl is not there; say how many passages: --passages N"):
        plan_index_of(load_config(tiny, [f"data.corpus={corpus}"]), None)
    write_corpus(corpus, [Passage(f"p{i}", "", "river castle") for i in range(1200)])
    counted = plan_index_of(load_config(tiny, [f"data.corpus={corpus}"]), None)
    assert counted is not None and counted["passages"] == 1200
    assert counted["parts"]["BM25 postings"]["disk"] == 2 * 8 * 1200
    with pytest.raises(ConfigError, match=r"data\.corpus: null"):
        plan_index_of(load_config(tiny, ["data.corpus=null"]), 5)
