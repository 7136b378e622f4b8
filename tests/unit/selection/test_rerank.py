"""`Selector.rerank` against enumeration of all lists, and what it says of input that is none."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

import ragdro.selection.writing as writing
from ragdro.data.passages import as_passages
from ragdro.errors import ConfigError, DataError, ModelError, RetrievalError
from ragdro.lm.saving import save_language_model
from ragdro.selection.rerank import all_lists
from ragdro.selection.selector import Selector
from ragdro.types import Candidates, Passage, Question, Task
from tests.conftest import byte_level, random_model, word_level

QUESTION = "where does Mara Voss work?"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    model = random_model(byte_level(), initializer_range=0.15, max_position_embeddings=4096)
    save_language_model(model, folder)
    return folder


def loaded(checkpoint: Path, k: int, **settings: object) -> Selector:
    return Selector.from_pretrained(checkpoint, k, prompt="tiny-selector", device="cpu", **settings)


def texts(count: int) -> list[str]:
    return [f"Firm {i} is based in Freedonia, near the sea." for i in range(count)]


def task(passages: list[str]) -> Task:
    return Task(Question("q", QUESTION, ()), Candidates("q", as_passages(passages)))


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize(("count", "k"), [(12, 2), (11, 3)])
def test_every_probability_by_enumeration(checkpoint: Path, count: int, k: int, stop: bool) -> None:
    """Of 12 passages taken two at a time all lists are scored; of 11 taken three at a time some are drawn."""
    selector = loaded(checkpoint, k, stop=stop)
    reranked = selector.rerank(QUESTION, texts(count), samples=400)
    lengths = range(1, k + 1) if stop else [k]
    lists = [z for length in lengths for z in permutations(range(count), length)]
    p = np.exp(selector.log_prob(task(texts(count)), lists, 9999))
    by_index = {ranked.index: ranked for ranked in reranked.passages}
    assert sorted(by_index) == list(range(count)) and reranked.exact == (len(lists) <= 720)
    assert reranked.lists == (len(lists) if reranked.exact else 400)
    for i, ranked in by_index.items():
        assert ranked.passage.text == texts(count)[i]
        assert ranked.first == pytest.approx(sum(p[j] for j, z in enumerate(lists) if z[0] == i), abs=1e-4)
        included = sum(p[j] for j, z in enumerate(lists) if i in z)
        off = abs(ranked.inclusion - included)
        assert (ranked.inclusion_error == 0 and off < 1e-4) if reranked.exact else off < 0.1
        if not reranked.exact and 0 < ranked.inclusion < 1:
            assert off < 4.5 * ranked.inclusion_error
    (greedy,) = selector.greedy([task(texts(count))], 9999)
    chosen = [ranked for ranked in reranked.passages if ranked.probability is not None]
    assert tuple(ranked.index for ranked in chosen) == greedy.permutation
    assert [ranked.probability for ranked in chosen] == pytest.approx(greedy.probabilities, abs=1e-4)
    assert reranked.passages[: len(chosen)] == tuple(chosen)
    assert reranked.selected == tuple(ranked.passage for ranked in chosen)
    others = [ranked.inclusion for ranked in reranked.passages[len(chosen) :]]
    assert others == sorted(others, reverse=True)


def test_drawn_lists_come_from_one_reading_of_the_prompt_and_repeat(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector, other = loaded(checkpoint, 3), loaded(checkpoint, 3)
    first = selector.rerank(QUESTION, texts(12), samples=20)
    read: list[int] = []
    plain = writing.write_lists

    def counted(*args: object) -> object:
        read.append(1)
        return plain(*args)

    monkeypatch.setattr("ragdro.selection.list_selector.write_lists", counted)
    other.rerank(QUESTION, texts(30), samples=20)  # it has identifiers of other lengths by now
    assert len(read) == 1 and other.grammar.candidates == 30
    assert other.rerank(QUESTION, texts(12), samples=20) == first
    assert other.rerank(QUESTION, texts(12), samples=20, seed=1) != first


def test_fewer_passages_than_k_are_all_selected_and_one_is_certain(checkpoint: Path) -> None:
    selector = loaded(checkpoint, 5)
    reranked = selector.rerank(QUESTION, texts(3))
    assert len(reranked.selected) == 3 and reranked.exact and reranked.lists == 6
    assert [ranked.inclusion for ranked in reranked.passages] == pytest.approx([1, 1, 1])
    (alone,) = selector.rerank(QUESTION, texts(1)).passages
    assert (alone.probability, alone.first, alone.inclusion, alone.inclusion_error) == (1.0, 1.0, 1.0, 0.0)


def test_passages_are_texts_mappings_or_passages() -> None:
    given = [
        "one",
        {"text": "two", "title": "Two", "score": 0.5},
        Passage("x", "", "three"),
        {"id": 7, "text": ""},
    ]
    assert as_passages(given) == (
        Passage("1", "", "one"),
        Passage("2", "Two", "two"),
        Passage("x", "", "three"),
        Passage("7", "", ""),
    )


@pytest.mark.parametrize(
    ("passages", "said"),
    [
        (["one", {"title": "Two"}], r"^passages\[1\]: field 'text': is missing$"),
        ([{"text": 3}], r"^passages\[0\]: field 'text': must be a string, is a number$"),
        ([{"text": "one", "id": ""}], r"^passages\[0\]: field 'id': is empty$"),
        ("one text", r"^passages: a list of passages is wanted, not one text: 'one text'$"),
    ],
)
def test_what_is_no_passage_is_named(passages: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        as_passages(passages)


def test_what_cannot_be_reranked_is_named(checkpoint: Path, tmp_path: Path) -> None:
    selector = loaded(checkpoint, 3)
    with pytest.raises(RetrievalError, match=f"question '{QUESTION[:-1]}.' has no candidates to select from"):
        selector.rerank(QUESTION, [])
    with pytest.raises(DataError, match="question: is empty"):
        selector.rerank(" ", texts(3))
    with pytest.raises(ConfigError, match="samples: at least 2"):
        selector.rerank(QUESTION, texts(3), samples=1)
    with pytest.raises(RetrievalError, match="4 candidates, more than the N = 3"):
        loaded(checkpoint, 3, n=3).rerank(QUESTION, texts(4))
    save_language_model(random_model(word_level()), tmp_path / "words")
    with pytest.raises(ModelError, match="cannot tell identifier"):
        loaded(tmp_path / "words", 3).rerank(QUESTION, texts(60))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"k": 0}, "k: at least 1"),
        ({"k": 3, "n": 2}, "K = 3 cannot be selected out of N = 2"),
        ({"dtype": "int8"}, "dtype: must be 'auto', 'float32', 'bfloat16', 'float16', not 'int8'"),
        ({"prompt": "unknown"}, "no prompt template named 'unknown'"),
        ({"passage_tokens": 0}, "passage_tokens: must be at least 1, is 0"),
    ],
)
def test_settings_out_of_range_are_named(checkpoint: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Selector.from_pretrained(checkpoint, **settings)


def test_all_lists_are_counted_before_they_are_made() -> None:
    assert len(all_lists(10, 3, stop=False) or ()) == 720
    assert all_lists(10, 3, stop=True) is None and all_lists(100, 50, stop=False) is None
    assert len(all_lists(3, 2, stop=True) or ()) == 9 and all_lists(1, 1, stop=False) == [(0,)]
