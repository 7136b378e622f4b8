"""Selection metrics against hand-worked numbers and brute force."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdro.errors import DataError
from ragdro.evaluation.ranking import (
    contains_answer,
    dpr_tokens,
    first_hit,
    full_recall,
    ranking_measures,
    recall_at_k,
    support_scores,
)
from ragdro.types import Passage


def passage(text: str, title: str = "", named: str = "x") -> Passage:
    return Passage(named, title, text)


def test_dpr_tokens_by_hand() -> None:
    assert dpr_tokens("The U.S.-born O'Neil, 1st!") == [
        "the",
        "u",
        ".",
        "s",
        ".",
        "-",
        "born",
        "o",
        "'",
        "neil",
        ",",
        "1st",
        "!",
    ]
    assert dpr_tokens("Café") == ["cafe\u0301"]  # decomposed: the mark belongs to the word
    assert dpr_tokens("a\u200bb\tc\n日本 x²") == ["a", "b", "c", "日本", "x²"]
    assert dpr_tokens("\u200b \u00a0") == []


@pytest.mark.parametrize(
    ("text", "answers", "tokens", "substring"),
    [
        ("He lives in New York City.", ["new york"], True, True),
        ("He lives in Newark.", ["new"], False, True),
        ("It cost 1,000 euros", ["1,000"], True, True),
        ("It cost 1,000 euros", ["1000"], False, True),
        ("In the U.S. army", ["US"], False, True),
        ("In the U.S. army", ["u.s."], True, True),
        ("A caf\u00e9 there", ["cafe\u0301"], True, False),
        ("york new", ["new york"], False, False),
        ("北京是中国的首都。", ["北京"], True, True),
        ("北京是中国的首都。", ["京北", "京都"], False, False),
        ("始于2008年", ["2008"], True, True),
        ("始于20080年", ["2008"], False, True),
        ("富士山は日本で一番高い山です", ["日本"], True, True),
        ("กรุงเทพเป็นเมืองหลวง", ["กรุงเทพ"], True, True),
        ("서울은 수도이다", ["서울"], True, True),
        (unicodedata.normalize("NFD", "서울은 수도이다"), ["서울"], True, False),
        ("순천은 도시이다", ["수"], False, False),
        ("anything", ["no", "\u200b"], True, False),  # DPR: an answer without tokens is in every text
        ("anything", [], False, False),
    ],
)
def test_answers_in_a_text(text: str, answers: list[str], tokens: bool, substring: bool) -> None:
    assert contains_answer(text, answers) is tokens
    assert contains_answer(text, answers, match="substring") is substring


def scan(text: str, answer: str) -> bool:
    """DPR's match the slow way: categories by `unicodedata`, windows one by one."""

    def split(s: str) -> list[str]:
        out: list[str] = []
        previous = False
        for c in unicodedata.normalize("NFD", s):
            word = unicodedata.category(c)[0] in "LNM"
            if word and previous:
                out[-1] += c
            elif word or unicodedata.category(c)[0] not in "ZC":
                out.append(c)
            previous = word
        return [token.lower() for token in out]

    text_tokens, answer_tokens = split(text), split(answer)
    return any(
        text_tokens[i : i + len(answer_tokens)] == answer_tokens
        for i in range(len(text_tokens) - len(answer_tokens) + 1)
    )


_ALPHABET = "aAéb. ,1²\u0301-ß\u200bİ"


@settings(max_examples=400, deadline=None)
@given(st.text(_ALPHABET, max_size=14), st.text(_ALPHABET, max_size=4))
def test_token_match_agrees_with_a_scan(text: str, answer: str) -> None:
    assert contains_answer(text, [answer]) == scan(text, answer)


def test_recall_at_k_counts_the_first_hit() -> None:
    ranked = [
        passage("nothing"),
        passage("no", title="the Visk"),
        passage("on the Visk"),
        passage("the visk"),
    ]
    assert first_hit(ranked, ["Visk"]) == 2
    assert first_hit(ranked, ["Visk"], with_title=True) == 1
    assert [recall_at_k(ranked, ["Visk"], k) for k in (1, 2, 3, 5)] == [0.0, 0.0, 1.0, 1.0]
    assert first_hit(ranked, ["Oster"]) is None and recall_at_k([], ["x"], 5) == 0.0


def test_gold_selected_and_support_are_by_content() -> None:
    gold = [passage("t1", "A", "g1"), passage("t2", "B", "g2")]
    selected = [
        passage("t1", "A", "c9"),
        passage("t2", "A", "c3"),
        passage("t2", "B", "c4"),
        passage("t1", "A", "d"),
    ]
    assert full_recall(selected, gold) == 1.0
    assert full_recall(selected[:2], gold) == 0.0
    assert full_recall(selected, []) is None and support_scores(selected, []) is None
    support = support_scores(selected, gold)  # three different ones selected, two of them gold
    assert support == pytest.approx((0.0, 0.8, 2 / 3, 1.0))
    assert support_scores(selected[:1], gold) == pytest.approx((0.0, 2 / 3, 1.0, 0.5))
    assert support_scores(gold, gold) == (1.0, 1.0, 1.0, 1.0)
    assert support_scores([], gold) == (0.0, 0.0, 0.0, 0.0)


def test_ndcg_and_average_precision_by_hand() -> None:
    a, b, c, d = (passage(text) for text in "abcd")
    ranked = {"q1": [a, b, a, c], "q2": [d], "q3": [a]}
    gold = {"q1": [b, c], "q2": [a], "q3": []}
    scores = ranking_measures(ranked, gold)
    ideal = 1 + 1 / math.log2(3)
    assert scores["nDCG@5"] == pytest.approx({"q1": (1 / math.log2(3) + 1 / math.log2(4)) / ideal, "q2": 0.0})
    assert scores["AP"] == pytest.approx({"q1": (1 / 2 + 2 / 3) / 2, "q2": 0.0})
    with pytest.raises(DataError, match="no such measure"):
        ranking_measures(ranked, gold, ("nonsense@x",))
