"""A small generated corpus, questions about it, and random BERT encoders made here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ragdro.types import Passage, Question
from tests.databases import Postgres

WORDS = [
    *[
        "river",
        "mountain",
        "bridge",
        "castle",
        "harbour",
        "engine",
        "violin",
        "garden",
        "planet",
        "library",
        "market",
        "winter",
    ],
    *[
        "painter",
        "founded",
        "crossing",
        "burning",
        "silver",
        "ancient",
        "wooden",
        "northern",
        "quiet",
        "running",
        "cities",
        "studies",
    ],
]


def generated_corpus(count: int, seed: int = 0) -> list[Passage]:
    """Passages of 3 to 40 words out of a skewed vocabulary, with titles of one or two."""
    rng = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(WORDS) + 1)]
    return [
        Passage(
            f"p{i}",
            " ".join(rng.choices(WORDS, k=rng.randint(1, 2))).title(),
            " ".join(rng.choices(WORDS, weights, k=rng.randint(3, 40))) + ".",
        )
        for i in range(count)
    ]


def generated_questions(count: int, seed: int = 1) -> list[Question]:
    rng = random.Random(seed)
    return [
        Question(f"q{i}", f"Which {' '.join(rng.choices(WORDS, k=4))}?", ("answer",)) for i in range(count)
    ]


@pytest.fixture
def corpus() -> list[Passage]:
    return generated_corpus(60)


@pytest.fixture
def questions() -> list[Question]:
    return generated_questions(9)


def killed_after(corpus: list[Passage], count: int) -> Iterator[Passage]:
    """The first passages, and then Ctrl-C."""
    yield from corpus[:count]
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def random_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random 2-layer BERT of width 32 and a word-level tokenizer of the corpus's words."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "which", ".", "?", *WORDS]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = BertTokenizerFast(vocab=vocabulary, model_max_length=64)
    assert tokenizer.tokenize("Which river?") == ["which", "river", "?"]
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_colbert(random_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random BERT with a random projection to 16 dimensions, saved as a late-interaction checkpoint."""
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("sentence_transformers")
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from sentence_transformers.sentence_transformer.modules import Normalize

    torch.manual_seed(1)
    name = "token_embeddings"
    modules = [
        Transformer(str(random_bert)),
        Dense(32, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name=name),
        MultiVectorMask(),
        Normalize(module_input_name=name),
    ]
    folder = tmp_path_factory.mktemp("colbert")
    library.MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of passages that were encoded behind a first stage, in order."""
    pytest.importorskip("sentence_transformers")
    from ragdro.retrieval import embedding
    from ragdro.retrieval.encoders import encode_texts, encode_tokens

    seen: list[str] = []

    def counted(encode: Callable[..., Any]) -> Callable[..., Any]:
        def work(method: Callable[..., Any], texts: Sequence[str], *rest: Any) -> Any:
            if method.__name__ == "encode_document":
                seen.extend(texts)
            return encode(method, texts, *rest)

        return work

    monkeypatch.setattr(embedding, "encode_texts", counted(encode_texts))
    monkeypatch.setattr(embedding, "encode_tokens", counted(encode_tokens))
    return seen


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.database()
