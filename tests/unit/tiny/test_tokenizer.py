"""The tiny tokenizer: what must be one token is one, and pieces tokenise as the whole does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ragdro.tiny.tokenizer import make_tokenizer, save_tokenizer
from ragdro.tiny.words import vocabulary


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """The tokenizer as a user gets it: saved and loaded by `AutoTokenizer`."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_words_numbers_and_marks_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in [*vocabulary(), *(str(n) for n in range(1, 21)), "[", "]", ">", ":", "?", "\n"]:
        assert len(ids(tokenizer, text)) == 1, text


def test_identifiers_do_not_merge_with_their_neighbours(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, " [3] > [17]\n[20] Bazor")) == [
        *("[", "3", "]", ">", "[", "17", "]", "Ċ", "[", "20", "]", "ĠBazor")
    ]


@pytest.mark.parametrize(
    "pieces",
    [
        (
            "Question: ",
            "What animal is on the coin of Bazor?",
            "\n[1] ",
            "Kitel lives in Bazor",
            "\nSelection:",
        ),
        (
            "Question:",
            " What animal is on the coin of Bazor?",
            "\n[1]",
            " Kitel lives in Bazor",
            "\nSelection:",
        ),
        ("Question: What", "animal\n[", "20", "]", "> [", "3", "]"),
        ("Selection:", " [3]", " >", " [17]", " > [1]"),
    ],
)
def test_pieces_tokenise_as_the_whole_does(
    tokenizer: PreTrainedTokenizerBase, pieces: tuple[str, ...]
) -> None:
    whole = pieces[0] + "".join(
        p if p[0] in "\n " or q[-1] in "\n [" else " " + p for q, p in pairwise(pieces)
    )
    assert [t for piece in pieces for t in ids(tokenizer, piece)] == ids(tokenizer, whole)


def test_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<eos>", "<pad>", None)
    assert ids(tokenizer, "<eos>") == [tokenizer.eos_token_id]


def test_answers_survive_decoding(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ["Bazor", "heron", "Bazor lives in Kitel", "naïve"]:
        assert tokenizer.decode(ids(tokenizer, text)).strip() == text


def test_saved_and_made_agree(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "Question: What animal is on the coin of Bazor?"
    assert ids(tokenizer, text) == list(make_tokenizer()(text)["input_ids"])
