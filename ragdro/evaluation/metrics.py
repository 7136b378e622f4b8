"""Answer metrics: exact match, F1, accuracy and ROUGE-L of one prediction against its gold answers.

In: strings. Out: a number in [0, 1], the best over the gold answers. Texts are compared after one of two
normalisations: `squad` (lower case, ASCII punctuation deleted, articles dropped, white space squeezed:
SQuAD's evaluation script, with which KILT, HotpotQA, MuSiQue and DPR agree) and `dro` (punctuation becomes
a space: the DRO authors' `src/utilize/metrics.py`, so that U.S. ≠ US).

The official scripts part ways in corners, and a `Rule` says whose corners are meant:

- `squad` (SQuAD 1.1): two texts that normalise to nothing have exact match 1 and F1 0.
- `hotpotqa` (hotpot_evaluate_v1.py), `2wiki` (2wikimultihop_evaluate_v1.1.py): yes, no and noanswer have
  F1 0 against anything else.
- `musique` (metrics/answer.py): two texts that normalise to nothing have F1 1.
- `kilt` (kilt/eval_downstream.py): texts are stripped first; a prediction that is then empty scores 0.
- `dpr` (dpr/data/qa_validation.py): articles are found by the `regex` package, to which combining marks
  belong to a word, so that a decomposed á is no article.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import regex  # type: ignore[import-untyped]

from ragdro.errors import DataError

Normalisation: TypeAlias = Literal["squad", "dro"]
Rule: TypeAlias = Literal["squad", "hotpotqa", "2wiki", "musique", "kilt", "dpr"]

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PUNCTUATION_TO_SPACE = str.maketrans(dict.fromkeys(string.punctuation, " "))
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_DPR_ARTICLES = regex.compile(r"\b(a|an|the)\b")
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


class Overlap(NamedTuple):
    """Token overlap of two texts, each a share in [0, 1]."""

    f1: float
    precision: float
    recall: float


_NOTHING = Overlap(0.0, 0.0, 0.0)


def normalise(text: str, normalisation: Normalisation = "squad", rule: Rule = "squad") -> str:
    """`text` as the metrics compare it; `rule` matters only in how DPR finds articles."""
    table = _PUNCTUATION_TO_SPACE if normalisation == "dro" else _WITHOUT_PUNCTUATION
    bare = text.lower().translate(table)
    without: str = _DPR_ARTICLES.sub(" ", bare) if rule == "dpr" else _ARTICLES.sub(" ", bare)
    return " ".join(without.split())


def _best(score: Callable[[str, str], float], prediction: str, answers: Sequence[str], rule: Rule) -> float:
    """The largest score over the gold answers, after what `kilt` does to both sides."""
    if rule == "kilt":
        prediction = prediction.strip()
        answers = [answer.strip() for answer in answers if answer.strip()]
        if not prediction:
            return 0.0
    if not answers:
        raise DataError("no gold answers to score against")
    return max(score(prediction, answer) for answer in answers)


def overlap(
    prediction: str, answer: str, *, normalisation: Normalisation = "squad", rule: Rule = "squad"
) -> Overlap:
    """F1, precision and recall of the tokens of `prediction` against those of one gold answer."""
    said, gold = normalise(prediction, normalisation, rule), normalise(answer, normalisation, rule)
    if (
        rule in ("hotpotqa", "2wiki")
        and said != gold
        and (said in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS)
    ):
        return _NOTHING
    said_tokens, gold_tokens = said.split(), gold.split()
    if rule == "musique" and not said_tokens and not gold_tokens:
        return Overlap(1.0, 1.0, 1.0)
    same = sum((Counter(said_tokens) & Counter(gold_tokens)).values())
    if same == 0:
        return _NOTHING
    precision, recall = same / len(said_tokens), same / len(gold_tokens)
    return Overlap(2 * precision * recall / (precision + recall), precision, recall)


def exact_match(
    prediction: str,
    answers: Sequence[str],
    *,
    normalisation: Normalisation = "squad",
    rule: Rule = "squad",
) -> float:
    """1.0 where the normalised prediction equals a normalised gold answer, else 0.0. Raises DataError
    without gold answers."""

    def equal(said: str, gold: str) -> float:
        return float(normalise(said, normalisation, rule) == normalise(gold, normalisation, rule))

    return _best(equal, prediction, answers, rule)


def f1(
    prediction: str,
    answers: Sequence[str],
    *,
    normalisation: Normalisation = "squad",
    rule: Rule = "squad",
) -> float:
    """Token F1 in [0, 1] against the gold answer it is largest for. Raises DataError without gold answers."""

    def token_f1(said: str, gold: str) -> float:
        return overlap(said, gold, normalisation=normalisation, rule=rule).f1

    return _best(token_f1, prediction, answers, rule)


def accuracy(
    prediction: str,
    answers: Sequence[str],
    *,
    normalisation: Normalisation = "squad",
    rule: Rule = "squad",
) -> float:
    """1.0 where the normalised prediction contains a normalised gold answer (as characters, as the DRO
    authors and FlashRAG count it), else 0.0. A gold answer that normalises to nothing is contained only
    in a prediction that does. (KILT calls "accuracy" what is strict string equality: see `official`.)
    Raises DataError without gold answers.
    """

    def contains(said: str, gold: str) -> float:
        text, gold_text = normalise(said, normalisation, rule), normalise(gold, normalisation, rule)
        return float(gold_text in text if gold_text else not text)

    return _best(contains, prediction, answers, rule)


def rouge_l(prediction: str, answers: Sequence[str]) -> float:
    """ROUGE-L F-measure in [0, 1], as KILT takes it from the PyPI package `rouge` (1.0 and later).

    Summary level: both texts are cut into sentences at full stops; over all pairs of sentences the words
    of a longest common subsequence are pooled, and distinct words counted. No normalisation but white
    space. An empty side scores 0. Raises DataError without gold answers.
    """
    return _best(_rouge_l, prediction, answers, "kilt")


def _sentences(text: str) -> list[list[str]]:
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _rouge_l(said: str, gold: str) -> float:
    said_sentences, gold_sentences = _sentences(said), _sentences(gold)
    if not said_sentences or not gold_sentences:
        return 0.0
    shared: set[str] = set()
    for gold_words in gold_sentences:
        for said_words in said_sentences:
            shared |= _common_subsequence(gold_words, said_words)
    recall = len(shared) / len({word for words in gold_sentences for word in words})
    precision = len(shared) / len({word for words in said_sentences for word in words})
    return 2.0 * (precision * recall / (precision + recall + 1e-8))


def _common_subsequence(left: Sequence[str], right: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence; of several, the one that `rouge` walks back along."""
    lengths = [[0] * (len(right) + 1)]
    for word in left:
        above, row = lengths[-1], [0]
        for j, other in enumerate(right):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        lengths.append(row)
    words: set[str] = set()
    i, j = len(left), len(right)
    while i and j:
        if left[i - 1] == right[j - 1]:
            words.add(left[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return words
