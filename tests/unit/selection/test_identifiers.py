"""The identifier grammar under hypothesis: parse undoes render, and nothing else parses."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ragdro.errors import DataError, ModelError
from ragdro.lm.tokens import TextTokenizer
from ragdro.selection.identifiers import IdentifierGrammar, parse, render
from ragdro.types import Permutation
from tests.conftest import TOKENIZERS

COUNTS = st.integers(1, 100)


@st.composite
def lists(draw: st.DrawFn, least: int = 1) -> tuple[int, Permutation]:
    """N ≤ 100 and K ≤ N of its indices in some order."""
    count = draw(st.integers(least, 100))
    k = draw(st.integers(1, count))
    return count, tuple(draw(st.permutations(range(count)))[:k])


@given(lists())
def test_parse_undoes_render(drawn: tuple[int, Permutation]) -> None:
    count, permutation = drawn
    assert parse(render(permutation), count) == permutation


LETTERS = [*"0123456789[]> ,\n\t-+x", "\u0661", "\u00b2", "\u200b", "\uff11"]
MUTATION = st.tuples(
    st.integers(0, 400), st.sampled_from(["insert", "delete", "double", "swap"]), st.sampled_from(LETTERS)
)


@settings(max_examples=300)
@given(lists(), st.lists(MUTATION, min_size=1, max_size=3))
def test_what_render_did_not_write_does_not_parse(
    drawn: tuple[int, Permutation], mutations: list[tuple[int, str, str]]
) -> None:
    count, permutation = drawn
    text = render(permutation)
    for place, how, letter in mutations:
        place %= len(text) + 1
        if how == "insert":
            text = text[:place] + letter + text[place:]
        elif how == "delete":
            text = text[:place] + text[place + 1 :]
        elif how == "double":
            text = text[:place] + text[max(0, place - 6) : place] + text[place:]
        else:
            text = text[:place] + text[place : place + 2][::-1] + text[place + 2 :]
    accepted_only_if_rendered(text, count)


@given(st.text(alphabet="0123456789[]> \n", max_size=30) | st.text(max_size=20), COUNTS)
def test_other_strings_do_not_parse(text: str, count: int) -> None:
    accepted_only_if_rendered(text, count)


@pytest.mark.parametrize(
    "text", ["[" + "9" * 5_000 + "]", "[1] > " * 10_000, "[01]", "[1]\n", "[١]", "[1] >[2]", ""]
)
def test_strings_that_look_like_a_list(text: str) -> None:
    with pytest.raises(DataError) as refused:
        parse(text, 100)
    assert len(str(refused.value)) < 400


def accepted_only_if_rendered(text: str, count: int) -> None:
    """Either refused by an error of our own or the very text of a permutation of `count`."""
    try:
        permutation = parse(text, count)
    except DataError:
        return
    assert (
        render(permutation) == text and len(set(permutation)) == len(permutation) and max(permutation) < count
    )


@lru_cache
def grammar(tokenizer: str, count: int) -> IdentifierGrammar | None:
    """None where the tokenizer cannot tell that many identifiers apart, and says so."""
    try:
        return IdentifierGrammar(TextTokenizer(TOKENIZERS[tokenizer](), name=tokenizer), count)
    except ModelError as error:
        assert tokenizer in str(error)
        return None


@pytest.mark.slow
@pytest.mark.parametrize("tokenizer", sorted(TOKENIZERS))
@settings(max_examples=60, deadline=None)
@given(drawn=lists(least=2))
def test_tokens_are_those_of_one_list_and_of_no_other(tokenizer: str, drawn: tuple[int, Permutation]) -> None:
    """What the grammar writes reads back as z, whatever N, K and the tokenizer, where it knows N."""
    count, permutation = drawn
    made = grammar(tokenizer, 100) or grammar(tokenizer, 29)
    assert made is not None
    assume(count <= made.candidates)
    scored = made.scored([made.tokenizer.end_id], permutation, count)
    text = made.tokenizer.hf.decode(scored.tokens[1:-1].tolist(), skip_special_tokens=True)
    digits = "".join(text.split()).replace("]>[", "] > [")
    assert parse(digits, count) == permutation
    state = made.begin(count, len(permutation))
    for target, allowed in zip(scored.targets, scored.allowed or (), strict=True):
        assert scored.tokens[target] in allowed
        assert state.competing is not None and (state.competing == allowed).all()
        state.take(int(scored.tokens[target]))
    assert state.competing is None and state.chosen == permutation


def test_two_tokenizers_know_a_hundred_identifiers() -> None:
    assert [t for t in sorted(TOKENIZERS) if grammar(t, 100)] == ["byte-level", "sentencepiece-like"]
