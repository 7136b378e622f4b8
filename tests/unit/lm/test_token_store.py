"""Stored ids against the tokenizer itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from ragdro.lm.token_store import token_store
from ragdro.lm.tokens import TextTokenizer
from tests.conftest import byte_level, word_level

TEXTS = ["Mara Voss works for Zorba.", "", "a <|eot_id|> b", "[17] > [3]", "Zorba.", "Zorba."]


def test_what_is_stored_is_what_the_tokenizer_gives(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = TEXTS
    asked = TextTokenizer(tokenizer, name="asked")
    expected = {text: asked.data(text) for text in texts}
    token_store(asked, texts, tmp_path)
    again = TextTokenizer(tokenizer, name="again")
    monkeypatch.setattr(TextTokenizer, "_bare", lambda *rest: pytest.fail("tokenised again"))
    store = token_store(again, reversed(texts), tmp_path)
    again.memory = store.get
    assert {text: again.data(text) for text in texts} == expected
    assert again.data(texts[0], 2) == expected[texts[0]][:2]
    assert store.get("never seen") is None
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_another_tokenizer_or_another_text_is_another_store(tmp_path: Path) -> None:
    one, other = TextTokenizer(byte_level(), name="x"), TextTokenizer(word_level(), name="x")
    stores = [token_store(t, texts, tmp_path) for t in (one, other) for texts in (TEXTS, TEXTS[:1])]
    assert len(list((tmp_path / "tokens").iterdir())) == 4
    assert [s.get(TEXTS[0]) for s in stores] == [t.data(TEXTS[0]) for t in (one, one, other, other)]
    assert [s.get(TEXTS[3]) is None for s in stores] == [False, True, False, True]


def test_a_store_that_could_not_be_finished_is_not_there(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(byte_level(), name="x")
    tokenizer.memory = lambda text: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        token_store(tokenizer, TEXTS[:2], tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []
