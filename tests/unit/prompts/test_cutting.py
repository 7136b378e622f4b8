"""What is over a budget is cut at a token's end; a dialogue loses its first turns; all of it is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ragdro.lm.tokens import TextTokenizer
from ragdro.prompts import load_template
from ragdro.prompts.template import Budget, PromptTemplate
from ragdro.types import Passage
from tests.conftest import TOKENIZERS, byte_level

_KEPT = {name: TextTokenizer(make(), name=name) for name, make in TOKENIZERS.items()}


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), limit=st.integers(1, 12))
def test_a_cut_text_is_a_beginning_that_fits(name: str, text: str, limit: int) -> None:
    tokenizer = _KEPT[name]
    cut = tokenizer.cut(text, limit)
    assert text.startswith(cut) and len(tokenizer.data(cut)) <= limit
    assert (cut == text) == (len(tokenizer.data(text)) <= limit)


def test_a_cut_takes_what_fits_and_splits_no_character() -> None:
    tokenizer = TextTokenizer(byte_level(), name="x")
    assert tokenizer.cut("Mara Voss works", 2) == "Mara Voss"
    assert tokenizer.cut("a中b", 2) == "a"  # three bytes are three tokens
    assert tokenizer.cut("a中b", 4) == "a中"


def test_a_dialogue_keeps_its_last_turns(tokenizer: PreTrainedTokenizerFast) -> None:
    text = TextTokenizer(tokenizer, name="x")
    turns = ["Mara works for Zorba." * 3, "where is the sea?", "Question: where does Mara Voss work?"]
    last = len(text.data("\n".join(turns[1:])))
    assert text.cut("\n".join(turns), 10_000, turns=True) == "\n".join(turns)
    assert text.cut("\n".join(turns), last, turns=True) == "\n".join(turns[1:])
    assert text.cut("\n".join(turns), last - 1, turns=True) == turns[2]
    alone = text.cut("\n".join(turns), 3, turns=True)
    assert alone and turns[2].startswith(alone)


_PROMPTS: dict[str, Callable[..., list[int]]] = {
    "encode": PromptTemplate.encode,
    "blocks": lambda *texts: [i for block in PromptTemplate.encode_blocks(*texts) for i in block],
    "ends": lambda *texts: PromptTemplate.encode_with_ends(*texts).ids,
    "spans": lambda *texts: PromptTemplate.encode_with_spans(*texts).ids,
}


@pytest.mark.parametrize("way", _PROMPTS)
@pytest.mark.parametrize("name", ["selector", "pointer", "generator", "rewriter", "thinking", "standalone"])
def test_a_prompt_has_a_dialogues_last_turns(name: str, way: str) -> None:
    text, template = TextTokenizer(byte_level(), name="x"), load_template(name)
    turns = ["who is Mara Voss?", "She works for Zorba.", "and where is that?"]
    budget = Budget(len(text.data("\n".join(turns[1:]))), 20)
    ids = _PROMPTS[way](template, text, "\n".join(turns), [Passage("1", "T", "short")], 1, budget)
    prompt = text.decode(ids)
    assert prompt.count("\n".join(turns[1:])) == template.user.count("{question}")
    assert turns[0] not in prompt and "Mara" not in prompt


def test_what_was_cut_is_counted() -> None:
    text, template = TextTokenizer(byte_level(), name="x"), load_template("generator")
    long = "Mara works for Zorba. " * 9
    passages = [Passage("1", "T", "short"), Passage("2", "T", long), Passage("3", long, "short")]
    assert template.counts.fractions() == {}
    template.encode(text, "where?", passages, 1, Budget(10, 20))
    template.encode(text, long, passages[:1], 1, Budget(10, 20))
    assert template.counts.fractions() == {"questions": 1 / 2, "passages": 2 / 4}
    assert load_template("generator").counts.questions == 0  # each role counts for itself
