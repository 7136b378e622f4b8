"""MUVERA's encodings against their definition, token by token; its search against exact MaxSim."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ragdro.config.indexes import IvfPqIndex
from ragdro.config.retriever import ColbertSettings, DenseSettings, MuveraFirstStage, parse_settings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval.fixed_dimensional import FixedDimensional
from ragdro.types import Passage, Question
from tests.unit.retrieval.conftest import generated_corpus, generated_questions
from tests.unit.retrieval.test_cache import write_corpus


def by_definition(tokens: np.ndarray, encoding: FixedDimensional, *, passage: bool) -> np.ndarray:
    """One set's encoding, region by region, in float64."""
    out: list[np.ndarray] = []
    for planes, signs in zip(encoding.planes.astype(float), encoding.signs.astype(float), strict=True):
        bits = [tuple(bool(plane @ token > 0) for plane in planes) for token in tokens]
        for number in range(2 ** len(planes)):
            region = tuple(bool(number >> bit & 1) for bit in range(len(planes)))
            inside = [token for token, own in zip(tokens, bits, strict=True) if own == region]
            if not passage:
                vector = sum(inside, np.zeros(tokens.shape[1]))
            elif inside:
                vector = sum(inside) / len(inside)
            else:  # nearest region; of several the lowest number, of its tokens the first
                apart = [sum(a != b for a, b in zip(region, own, strict=True)) for own in bits]
                numbers = [sum(bit << place for place, bit in enumerate(own)) for own in bits]
                vector = tokens[min(range(len(tokens)), key=lambda t: (apart[t], numbers[t], t))]
            out.append(vector @ signs)
    return np.concatenate(out)


@pytest.mark.parametrize(("repetitions", "hyperplanes", "projection"), [(1, 1, 6), (3, 4, 2), (2, 3, 5)])
def test_encodings_are_those_of_the_definition(repetitions: int, hyperplanes: int, projection: int) -> None:
    rng = np.random.default_rng(3)
    encoding = FixedDimensional.drawn(6, repetitions, hyperplanes, projection, rng)
    assert np.unique(np.abs(encoding.signs)) == pytest.approx([projection**-0.5])
    sets = [rng.standard_normal((length, 6)).astype(np.float32) for length in (1, 9, 4, 30)]
    asked, passages = encoding.of_questions(sets), encoding.of_passages(sets)
    assert asked.shape == passages.shape == (4, repetitions * 2**hyperplanes * projection)
    for one, question, passage in zip(sets, asked, passages, strict=True):
        np.testing.assert_allclose(question, by_definition(one, encoding, passage=False), atol=1e-5)
        np.testing.assert_allclose(passage, by_definition(one, encoding, passage=True), atol=1e-5)


def test_sets_are_encoded_alike_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    encoding = FixedDimensional.drawn(8, 4, 3, 4, rng)
    sets = [rng.standard_normal((length, 8)).astype(np.float32) for length in (3, 20, 1, 7, 7)]
    whole = encoding.of_passages(sets)
    for tokens in (1, 10, 23):
        monkeypatch.setattr("ragdro.retrieval.fixed_dimensional._TOKENS", tokens)
        np.testing.assert_allclose(encoding.of_passages(sets), whole, atol=1e-6)


def test_the_inner_product_orders_passages_much_as_max_sim_does() -> None:
    """300 random sets, of which one shares tokens with the question."""
    rng = np.random.default_rng(5)
    encoding = FixedDimensional.drawn(32, 20, 4, 8, rng)

    def unit(count: int) -> np.ndarray:
        drawn = rng.standard_normal((count, 32))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    passages = [unit(20) for _ in range(300)]
    encoded = encoding.of_passages(passages)
    ranks = []
    for target in range(0, 300, 10):
        question = passages[target][:6] + 0.1 * unit(6)
        scores = encoded @ encoding.of_questions([question.astype(np.float32)])[0]
        ranks.append(int((scores > scores[target]).sum()))
    assert float(np.mean(np.array(ranks) < 5)) >= 0.95


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "dense", "first_stage": {"kind": "muvera"}}, "first_stage.kind: must be bm25 or dense"),
        (
            {"kind": "colbert", "first_stage": {"kind": "muvera", "hyperplanes": 11}},
            "hyperplanes: must be at most 10",
        ),
        ({"kind": "colbert", "index": {"type": "lance"}, "first_stage": {"kind": "muvera"}}, "go together"),
    ],
)
def test_what_makes_no_sense_is_refused_by_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings({"model": "m", **values})
    with pytest.raises(RetrievalError, match=r"first_stage\.projection: 9 is more than a token's 8 numbers"):
        FixedDimensional.drawn(8, 2, 2, 9, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    "index",
    [
        {"type": "flat"},
        {"type": "hnsw"},
        {"type": "pq"},
        {"type": "ivfpq", "lists": 4, "probes": 4, "code_bytes": 64, "training_passages": 260},
    ],
    ids=lambda index: index["type"],
)
def test_a_corpus_is_searched_by_it_and_scored_exactly(
    index: dict[str, Any], random_colbert: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    from ragdro.retrieval import open_retriever
    from tests.unit.retrieval.test_staged import built

    corpus, questions = generated_corpus(300), generated_questions(12)
    values = {"kind": "colbert", "model": str(random_colbert), "device": "cpu"}
    stage = {"kind": "muvera", "top": 60, "hyperplanes": 3, "index": index, "shard_size": 70}
    exact = list(built(corpus, tmp_path / "exact", values).search(questions, 10))
    staged = built(corpus, tmp_path / "staged", {**values, "first_stage": stage})
    found = list(staged.search(questions, 10))
    shared = [
        len({p.id for p in one.passages} & {p.id for p in other.passages}) / 10
        for one, other in zip(exact, found, strict=True)
    ]
    assert float(np.mean(shared)) >= 0.9
    shutil.move(tmp_path / "staged", tmp_path / "moved")  # its lists are found beside it
    assert list(open_retriever(tmp_path / "moved").search(questions, 10)) == found
    assert capfd.readouterr().out == ""  # what a library says is not among a command's results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"type": "ivfpq", "code_bytes": 7}, "code_bytes: 7 does not divide width 2560"),
        ({"type": "pq", "numbers_per_code": 7}, "numbers_per_code: 7 does not divide width 2560"),
        (
            {"type": "ivfpq", "lists": 4},
            " 4 lists and 256 codes need at least 256 .*, there are 60",
        ),
    ],
)
def test_an_index_that_its_vectors_cannot_have_is_refused_before_any_is_encoded(
    index: dict[str, Any],
    message: str,
    random_colbert: Path,
    tmp_path: Path,
    corpus: list[Passage],
    encoded: list[str],
) -> None:
    pytest.importorskip("faiss")
    from tests.unit.retrieval.test_staged import built

    stage = {"kind": "muvera", "hyperplanes": 3, "index": index}
    values = {"kind": "colbert", "model": str(random_colbert), "device": "cpu", "first_stage": stage}
    with pytest.raises(RetrievalError, match=rf"retriever\.first_stage\.index[.:]{message}"):
        built(corpus, tmp_path / "index", values)
    assert encoded == []


@pytest.mark.slow
def test_a_passage_is_encoded_once_for_the_stage_and_for_the_scores(
    random_colbert: Path, tmp_path: Path, corpus: list[Passage], questions: list[Question], encoded: list[str]
) -> None:
    pytest.importorskip("faiss")
    from tests.unit.retrieval.test_staged import built

    stage = {"kind": "muvera", "top": 10, "repetitions": 4, "hyperplanes": 2, "projection": 4}
    values = {"kind": "colbert", "model": str(random_colbert), "device": "cpu", "first_stage": stage}
    cache = tmp_path / "cache"
    list(built(corpus, tmp_path / "one", values, cache).search(questions, 5))
    assert len(encoded) == len(set(encoded)) == len(corpus)
    other = {**values, "first_stage": {**stage, "hyperplanes": 3}}
    list(built(corpus, tmp_path / "two", other, cache).search(questions, 5))
    assert len(encoded) == len(corpus)


@pytest.mark.slow
def test_the_script_that_compares_first_stages_runs(
    random_colbert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss")
    from reproductions.first_stages import main

    corpus = generated_corpus(80)
    data = tmp_path / "data"
    for folder in ("corpora", "multihop"):
        (data / folder).mkdir(parents=True)
    write_corpus(data / "corpora/small.jsonl", corpus)
    lines = [
        {
            "id": f"q{i}",
            "question": corpus[i].text,
            "answers": ["answer"],
            "passages": [{"title": corpus[i].title, "text": corpus[i].text, "gold": True}],
        }
        for i in range(5)
    ]
    (data / "multihop/small_dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = [str(data), str(tmp_path / "out"), "--sets", "small", "--model", str(random_colbert)]
    words += ["--projection", "checkpoint", "--top", "70", "--passages", "75"]
    main([*words, "--stages", "bm25", "muvera 20 x 16 x 8"])
    exact, by_words, by_vectors = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert exact.items() >= {"set": "small", "passages": 75, "questions": 5, "first_stage": None}.items()
    for row in (by_words, by_vectors):
        assert row["of_exact"] == pytest.approx(row["recall"] / exact["recall"], abs=1e-3)
        assert row["shared"] > 0.8
    assert by_vectors["bytes"] > 4 * 20 * 16 * 8 and by_words["bytes"] < by_vectors["bytes"]


def test_by_default_a_byte_stands_for_eight_numbers_and_a_quarter_of_the_lists_is_looked_into() -> None:
    scorer = {"kind": "colbert", "model": "m", "first_stage": {"kind": "muvera", "index": {"type": "ivfpq"}}}
    settings = parse_settings(scorer)
    assert isinstance(settings, ColbertSettings)
    stage = settings.first_stage
    assert isinstance(stage, MuveraFirstStage) and isinstance(stage.index, IvfPqIndex)
    assert stage.width == 8 * stage.index.code_bytes and stage.index.lists == 4 * stage.index.probes
    dense = parse_settings({"kind": "dense", "model": "m", "index": {"type": "ivfpq"}})
    assert isinstance(dense, DenseSettings) and isinstance(dense.index, IvfPqIndex)
    assert (dense.index.probes, dense.index.code_bytes) == (64, 64)
