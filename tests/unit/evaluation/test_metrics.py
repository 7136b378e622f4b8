"""Answer metrics against hand-worked numbers, and against an oracle written another way."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdro.errors import DataError
from ragdro.evaluation.metrics import Rule, accuracy, exact_match, f1, normalise, overlap, rouge_l

WORDS = [
    "a",
    "an",
    "the",
    "The",
    "yes",
    "no",
    "noanswer",
    "U.S.",
    "US",
    "1,000",
    "cat",
    "Cat's",
    "",
    ".",
    "ß",
    "é",
]
SAID = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.text(max_size=12)


@pytest.mark.parametrize(
    ("text", "squad", "dro"),
    [
        ("The U.S. Army", "us army", "u s army"),
        ("a  cat, an'd the-dog", "cat and thedog", "cat d dog"),
        ("1,000.5", "10005", "1 000 5"),
        ("“Curly” – dash…", "“curly” – dash…", "“curly” – dash…"),
        ("A THEATRE", "theatre", "theatre"),
        ("İstanbul\u00a0ÉCOLE", "i̇stanbul école", "i̇stanbul école"),
        ("the", "", ""),
        ("a_b", "ab", "b"),
    ],
)
def test_normalisation_by_hand(text: str, squad: str, dro: str) -> None:
    assert normalise(text) == squad
    assert normalise(text, "dro") == dro


def test_dpr_takes_a_combining_mark_as_part_of_the_word() -> None:
    assert (
        normalise("a\u0301 cat") == "\u0301 cat"
    )  # `re`: the mark is no word character, so "a" is an article
    assert normalise("a\u0301 cat", rule="dpr") == "a\u0301 cat"
    assert exact_match("a\u0301 cat", ["\u0301 cat"]) == 1.0
    assert exact_match("a\u0301 cat", ["\u0301 cat"], rule="dpr") == 0.0


@pytest.mark.parametrize(
    ("said", "golds", "rule", "em", "f_one"),
    [
        ("The big red cat", ["red cat", "dog"], "squad", 0.0, 0.8),  # P 2/3, R 1
        ("red red cat", ["red cat red fox"], "squad", 0.0, 6 / 7),  # P 1, R 3/4
        ("U.S.", ["US"], "squad", 1.0, 1.0),
        ("the", ["an"], "squad", 1.0, 0.0),
        ("the", ["an"], "musique", 1.0, 1.0),
        ("", ["cat"], "musique", 0.0, 0.0),
        ("  ", ["the"], "kilt", 0.0, 0.0),
        ("the", ["an"], "kilt", 1.0, 0.0),
        (" Cat ", ["  ", "cat "], "kilt", 1.0, 1.0),
        ("yes it is", ["yes"], "squad", 0.0, 0.5),
        ("yes it is", ["yes"], "hotpotqa", 0.0, 0.0),
        ("no", ["no way"], "2wiki", 0.0, 0.0),
        ("No.", ["no"], "hotpotqa", 1.0, 1.0),
        ("noanswer", ["noanswer here"], "squad", 0.0, 2 / 3),
        ("noanswer", ["noanswer here"], "hotpotqa", 0.0, 0.0),
    ],
)
def test_scores_by_hand(said: str, golds: list[str], rule: Rule, em: float, f_one: float) -> None:
    assert exact_match(said, golds, rule=rule) == em
    assert f1(said, golds, rule=rule) == pytest.approx(f_one, abs=1e-12)


def test_accuracy_is_containment_of_characters() -> None:
    assert accuracy("It was Mara Dell, in 1901.", ["mara dell"]) == 1.0
    assert accuracy("category", ["cat"]) == 1.0
    assert accuracy("dog", ["cat", "do"]) == 1.0
    assert accuracy("Dell", ["mara dell"]) == 0.0
    assert accuracy("cat", ["the"]) == 0.0 and accuracy("an", ["the"]) == 1.0
    assert accuracy("U.S.", ["u s"], normalisation="dro") == 1.0 and accuracy("U.S.", ["u s"]) == 0.0


def test_without_gold_answers_there_is_no_score() -> None:
    for metric in (exact_match, f1, accuracy, rouge_l):
        with pytest.raises(DataError, match="no gold answers"):
            metric("x", [])


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat", "the dog sat", 2 / 3),
        ("The cat", "the cat", 0.5),  # no lower-casing
        ("b a", "a b", 0.5),
        ("a b a b", "a b", 1.0),  # distinct words on both sides
        ("one two. three", "three. one", 0.8),  # sentences: {three}, {one} of 2; 2 of 3 said
        ("...", "a", 0.0),
        ("x", "y", 0.0),
    ],
)
def test_rouge_l_by_hand(said: str, gold: str, expected: float) -> None:
    assert rouge_l(said, [gold]) == pytest.approx(expected, abs=1e-7)
    assert rouge_l(said, ["zzz", gold]) == rouge_l(said, [gold])


def test_rouge_l_carries_the_package_s_epsilon() -> None:
    assert rouge_l("a", ["a"]) == 2.0 * (1.0 / (2.0 + 1e-8)) != 1.0


# --- an oracle: characters one at a time, overlap by striking out ---------------------------------------


def oracle_tokens(text: str, rule: Rule) -> list[str]:
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    out, word = [], ""
    for c in kept + " ":
        is_word = c.isalnum() or c == "_"
        if is_word:
            word += c
            continue
        out.append(" " if word in ("a", "an", "the") else word)
        out.append(c)
        word = ""
    return "".join(out).split()


def oracle_f1(said: str, gold: str, rule: Rule) -> float:
    left, right = oracle_tokens(said, rule), oracle_tokens(gold, rule)
    closed = (["yes"], ["no"], ["noanswer"])
    if rule in ("hotpotqa", "2wiki") and left != right and (left in closed or right in closed):
        return 0.0
    if rule == "musique" and (not left or not right):
        return float(left == right)
    pool, same = list(right), 0
    for token in left:
        if token in pool:
            pool.remove(token)
            same += 1
    return 2 * same / (len(left) + len(right)) if same else 0.0  # the harmonic mean, simplified


@settings(max_examples=400, deadline=None)
@given(
    SAID, st.lists(SAID, min_size=1, max_size=3), st.sampled_from(["squad", "hotpotqa", "2wiki", "musique"])
)
def test_f1_and_exact_match_agree_with_the_oracle(said: str, golds: Sequence[str], rule: Rule) -> None:
    assert f1(said, golds, rule=rule) == pytest.approx(max(oracle_f1(said, g, rule) for g in golds), abs=1e-9)
    same = any(oracle_tokens(said, rule) == oracle_tokens(g, rule) for g in golds)
    assert exact_match(said, golds, rule=rule) == float(same)
    for gold in golds:
        shared = overlap(said, gold, rule=rule)
        assert min(shared) >= 0 and max(shared) <= 1


def brute_common_subsequences(left: list[str], right: list[str]) -> list[set[str]]:
    """The word sets of all longest common subsequences, by trying every choice of positions."""
    longest: list[tuple[str, ...]] = []
    for size in range(min(len(left), len(right)), 0, -1):
        of_right = {
            tuple(right[i] for i in places) for places in itertools.combinations(range(len(right)), size)
        }
        of_left = {
            tuple(left[i] for i in places) for places in itertools.combinations(range(len(left)), size)
        }
        longest = sorted(of_right & of_left)
        if longest:
            break
    return [set(words) for words in longest] or [set()]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6),
)
def test_rouge_l_of_one_sentence_is_that_of_a_longest_subsequence(left: list[str], right: list[str]) -> None:
    possible = []
    for shared in brute_common_subsequences(right, left):
        precision, recall = len(shared) / len(set(left)), len(shared) / len(set(right))
        possible.append(2 * precision * recall / (precision + recall + 1e-8))
    assert any(rouge_l(" ".join(left), [" ".join(right)]) == pytest.approx(p, abs=1e-12) for p in possible)
