"""Stored ids against the tokenizer itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from ragdro.lm.token_store import TokenStore, token_stores
from ragdro.lm.tokens import TextTokenizer
from ragdro.lm.vocabulary import Vocabulary
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget
from ragdro.types import Passage
from tests.conftest import byte_level, is_mapped, word_level

TEXTS = ["Mara Voss works for Zorba.", "", "a <|eot_id|> b", "[17] > [3]", "Zorba.", "Zorba."]


def store_of(tokenizer: TextTokenizer, texts: Iterable[str], cache: Path) -> TokenStore:
    (folder,) = token_stores([tokenizer], texts, cache)
    return TokenStore(folder)


def test_what_is_stored_is_what_the_tokenizer_gives(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = TextTokenizer(tokenizer, name="asked")
    expected = {text: asked.lines([text])[0] for text in TEXTS}
    assert asked.lines(TEXTS) == [expected[text] for text in TEXTS]
    store_of(asked, TEXTS, tmp_path)
    again = TextTokenizer(tokenizer, name="again")
    monkeypatch.setattr(TextTokenizer, "lines", lambda *rest: pytest.fail("tokenised again"))
    store = store_of(again, reversed(TEXTS), tmp_path)
    assert {text: store.get(text) for text in TEXTS} == expected
    assert store.get("never seen") is None
    assert len(list((tmp_path / "tokens").iterdir())) == 1


@pytest.mark.parametrize("budget", [Budget(4, 5), Budget(50, 12), Budget(50, 50)])
def test_prompts_are_the_same_with_a_store(
    tokenizer: PreTrainedTokenizerFast, budget: Budget, tmp_path: Path
) -> None:
    """Whatever is cut and whatever a text says; and the store is asked for what is not cut."""
    passages = [Passage(str(i), "Zorba", text) for i, text in enumerate([*TEXTS, "a\nb ", " a", "Mara\n"])]
    plain, stored = TextTokenizer(tokenizer, name="x"), TextTokenizer(tokenizer, name="x")
    stored.memory = store_of(stored, [p.text for p in passages], tmp_path).get
    for template in (load_template("selector"), load_template("generator")):
        texts = [template.encode(t, TEXTS[0], passages, 2, budget) for t in (plain, stored)]
        assert texts[0] == texts[1]


def test_a_stored_line_is_not_tokenised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TextTokenizer(byte_level(), name="x")
    said = TEXTS[0]
    assert text.lines([said])[0] == text.hf(f"\n{said}\n")["input_ids"][1:]
    text.memory = store_of(text, TEXTS, tmp_path).get
    segments = [("a\n",), ("", said, "\n"), ("b",)]
    expected = text.hf(f"a\n{said}\nb")["input_ids"]
    joined = Vocabulary.joined

    def others(vocabulary: Vocabulary, parts: tuple[str, ...]) -> list[int]:
        assert said not in parts
        return joined(vocabulary, parts)

    monkeypatch.setattr(Vocabulary, "joined", others)
    assert text.cut(said, 99) == said and text.prompt(segments) == expected


def test_a_store_is_read_from_its_files_as_it_is_asked(tmp_path: Path) -> None:
    store = store_of(TextTokenizer(byte_level(), name="x"), TEXTS, tmp_path)
    arrays = [value for value in vars(store).values() if isinstance(value, np.ndarray)]
    assert len(arrays) == 4 and all(map(is_mapped, arrays))


def test_another_tokenizer_or_another_text_is_another_store(tmp_path: Path) -> None:
    one, other = TextTokenizer(byte_level(), name="x"), TextTokenizer(word_level(), name="x")
    stores = [store_of(t, texts, tmp_path) for t in (one, other) for texts in (TEXTS, TEXTS[:1])]
    assert len(list((tmp_path / "tokens").iterdir())) == 4
    assert [s.get(TEXTS[0]) for s in stores] == [t.lines(TEXTS[:1])[0] for t in (one, one, other, other)]
    assert [s.get(TEXTS[4]) is None for s in stores] == [False, True, False, True]


def test_a_store_that_could_not_be_finished_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = TextTokenizer(byte_level(), name="x")
    monkeypatch.setattr(tokenizer, "lines", lambda texts: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        store_of(tokenizer, TEXTS[:2], tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []
