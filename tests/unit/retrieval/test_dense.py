"""Dense retrieval with a random BERT: flat search against numpy, approximate ones against flat, restarts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss")
pytest.importorskip("sentence_transformers")

from ragdro.config.indexes import HnswIndex, IvfPqIndex, PqIndex
from ragdro.config.retriever import DenseSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.dense import DenseRetriever
from ragdro.training.teachers import encoder_orders
from ragdro.types import Candidates, Passage, Question, Task
from tests.unit.retrieval.conftest import generated_corpus, generated_questions

pytestmark = pytest.mark.slow


def built(corpus: Sequence[Passage], folder: Path, settings: DenseSettings) -> DenseRetriever:
    retriever = DenseRetriever(settings)
    retriever.build(corpus, folder)
    retriever.open(folder)
    return retriever


def by_hand(model: Path, texts: Sequence[str]) -> np.ndarray:
    """Mean-pooled, normalised last hidden states, one text at a time, straight from transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, bert = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    rows = []
    for text in texts:
        with torch.no_grad():
            states = bert(**tokenizer(text, return_tensors="pt", truncation=True)).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(states.mean(0), dim=0).numpy())
    return np.stack(rows)


def test_flat_search_is_the_full_product(
    corpus: list[Passage], questions: list[Question], random_bert: Path, tmp_path: Path
) -> None:
    settings = DenseSettings(model=str(random_bert), device="cpu", shard_size=17, query_prompt="which ")
    retriever = built(corpus, tmp_path / "index", settings)
    passages = by_hand(random_bert, [f"{p.title} {p.text}" for p in corpus])
    asked = by_hand(random_bert, [f"which {q.question}" for q in questions])
    for row, candidates in zip(asked @ passages.T, retriever.search(questions, 12), strict=True):
        score = {passage.id: row[i] for i, passage in enumerate(corpus)}
        assert candidates.scores == pytest.approx(np.sort(row)[::-1][:12].tolist(), abs=1e-4)
        assert [score[p.id] for p in candidates.passages] == pytest.approx(candidates.scores, abs=1e-4)
        assert len({p.id for p in candidates.passages}) == 12


def with_prompts(random_bert: Path, folder: Path) -> Path:
    """A checkpoint whose own config says what goes before questions and passages."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(str(random_bert)), Pooling(32)]
    prompts = {"query": "river castle ", "document": "bridge "}
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("settings", "query", "passage"),
    [
        ({}, "river castle ", "bridge "),
        ({"query_prompt": "silver "}, "silver ", "bridge "),
        ({"query_prompt": "", "passage_prompt": ""}, "", ""),
    ],
)
def test_the_checkpoint_s_own_prompts_apply_unless_the_settings_say_otherwise(
    settings: dict[str, str],
    query: str,
    passage: str,
    corpus: list[Passage],
    questions: list[Question],
    random_bert: Path,
    tmp_path: Path,
) -> None:
    model = with_prompts(random_bert, tmp_path / "model")
    retriever = built(corpus, tmp_path / "index", DenseSettings(model=str(model), device="cpu", **settings))
    passages = by_hand(random_bert, [f"{passage}{p.title} {p.text}" for p in corpus])
    asked = by_hand(random_bert, [f"{query}{q.question}" for q in questions])
    for row, candidates in zip(asked @ passages.T, retriever.search(questions, 5), strict=True):
        assert candidates.scores == pytest.approx(np.sort(row)[::-1][:5].tolist(), abs=1e-4)


def test_the_checkpoint_s_own_routes_apply(
    corpus: list[Passage], questions: list[Question], random_bert: Path, tmp_path: Path
) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import BertModel

    other = tmp_path / "other"
    shutil.copytree(random_bert, other)
    torch.manual_seed(3)
    BertModel(BertModel.from_pretrained(other).config).save_pretrained(other)
    router = Router.for_query_document(
        [Transformer(str(other)), Pooling(32)], [Transformer(str(random_bert)), Pooling(32)]
    )
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(tmp_path / "model"))
    settings = DenseSettings(model=str(tmp_path / "model"), device="cpu")
    retriever = built(corpus, tmp_path / "index", settings)
    passages = by_hand(random_bert, [f"{p.title} {p.text}" for p in corpus])
    asked = by_hand(other, [q.question for q in questions])
    for row, candidates in zip(asked @ passages.T, retriever.search(questions, 5), strict=True):
        assert candidates.scores == pytest.approx(np.sort(row)[::-1][:5].tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("index", "least"),
    [
        (HnswIndex(neighbours=16), 0.95),
        (IvfPqIndex(lists=4, probes=4, code_bytes=16), 0.5),
        (PqIndex(numbers_per_code=1), 0.5),
    ],
)
def test_approximate_indexes_find_most_of_what_flat_finds(
    index: HnswIndex | IvfPqIndex | PqIndex, least: float, random_bert: Path, tmp_path: Path
) -> None:
    corpus, questions = generated_corpus(300), generated_questions(10)
    exact = DenseSettings(model=str(random_bert), device="cpu")
    approximate = exact.model_copy(update={"index": index})
    expected = list(built(corpus, tmp_path / "flat", exact).search(questions, 10))
    first = list(built(corpus, tmp_path / "one", approximate).search(questions, 10))
    again = list(built(corpus, tmp_path / "two", approximate).search(questions, 10))
    assert first == again
    shared = [len(set(w.passages) & set(f.passages)) / 10 for w, f in zip(expected, first, strict=True)]
    assert float(np.mean(shared)) >= least


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (IvfPqIndex(code_bytes=5), "code_bytes: 5 does not divide width 32"),
        (PqIndex(numbers_per_code=5), r"retriever\.index\.numbers_per_code: 5 does not divide width 32"),
        (
            IvfPqIndex(code_bytes=8),
            "4,096 lists and 256 codes need at least 4,096 training passages, there are 60",
        ),
    ],
)
def test_indexes_that_cannot_be_are_refused(
    index: IvfPqIndex | PqIndex, message: str, corpus: list[Passage], random_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(RetrievalError, match=message):
        built(corpus, tmp_path / "index", DenseSettings(model=str(random_bert), device="cpu", index=index))


def test_sixteen_codes_need_sixteen_passages(
    corpus: list[Passage], random_bert: Path, tmp_path: Path
) -> None:
    settings = DenseSettings(model=str(random_bert), device="cpu", index=PqIndex())
    with pytest.raises(
        RetrievalError, match="index: 16 codes need at least 16 training passages, there are 15"
    ):
        built(corpus[:15], tmp_path / "few", settings)
    assert len(built(corpus[:16], tmp_path / "enough", settings).store) == 16


def test_a_model_that_is_not_there_is_named(corpus: list[Passage], tmp_path: Path) -> None:
    missing = str(tmp_path / "no-model")
    with pytest.raises(RetrievalError, match=r"retriever\.model: .*no-model: no such checkpoint folder"):
        built(corpus, tmp_path / "index", DenseSettings(model=missing, device="cpu"))


def test_the_warm_ups_bi_encoder_orders_by_the_cosine_of_its_vectors(random_bert: Path) -> None:
    corpus = generated_corpus(10)
    tasks = [
        Task(question, Candidates(question.id, tuple(corpus[5 * i : 5 * i + 5])))
        for i, question in enumerate(generated_questions(2))
    ]
    orders = encoder_orders(str(random_bert), tasks)
    for task, order in zip(tasks, orders, strict=True):
        texts = [f"{p.title} {p.text}" for p in task.candidates.passages]
        vectors = by_hand(random_bert, [task.question.question, *texts])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        assert order == tuple(np.argsort(-(unit[1:] @ unit[0]), kind="stable").tolist())
    assert any(order != tuple(range(5)) for order in orders)
