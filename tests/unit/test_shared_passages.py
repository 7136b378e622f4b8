"""Counting of tokens that questions share, by hand."""

from __future__ import annotations

import pytest

from ragdro.types import Passage
from reproductions.shared_passages import saved


def test_tokens_of_passages_that_an_earlier_question_has() -> None:
    a, b, c = (Passage(name, "", "text") for name in "abc")
    lengths = {"a": 10, "b": 20, "c": 30}
    lists = [(a, b), (a, c), (b, c), (a,)]  # 30 + 40 + 50 + 10 = 130 tokens
    assert saved(lists, lengths, 1) == 0
    assert saved(lists, lengths, 2) == pytest.approx(1 - (60 + 60) / 130)
    assert saved(lists, lengths, 4) == pytest.approx(1 - 60 / 130)
