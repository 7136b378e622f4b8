"""Selection metrics: does an ordered list of passages hold the answer, and the gold passages?

Recall@k follows DPR (facebookresearch/DPR, dpr/data/qa_validation.py with dpr/utils/tokenizers.py): 1 if
one of the first k passages contains a gold answer as a run of tokens, a token being a run of letters,
digits and marks or any other visible character, in NFD, lower case. In scripts without spaces between
words, and in Korean, each character is a token, where DPR's is a run of them: 北京 is in 北京是首都. Passages
are compared by `Passage.content`, so that ids of different files do not matter. nDCG and MAP come from
ir-measures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import regex  # type: ignore[import-untyped]

from ragdro.errors import DataError
from ragdro.evaluation.metrics import normalise
from ragdro.types import Passage
from ragdro.unspaced import set_apart

Match: TypeAlias = Literal["tokens", "substring"]

_TOKEN = regex.compile(
    r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]", flags=regex.IGNORECASE | regex.UNICODE | regex.MULTILINE
)
_BETWEEN = "\x1f"  # a control character: in no token


def dpr_tokens(text: str) -> list[str]:
    """The tokens of DPR's SimpleTokenizer, uncased, of `text` in NFD."""
    return [token.lower() for token in _TOKEN.findall(unicodedata.normalize("NFD", text))]


def _searchable(text: str, match: Match) -> str:
    if match == "substring":
        return normalise(text)
    return f"{_BETWEEN}{_BETWEEN.join(dpr_tokens(set_apart(text)))}{_BETWEEN}"


def contains_answer(text: str, answers: Sequence[str], *, match: Match = "tokens") -> bool:
    """Whether `text` contains one of `answers`.

    `tokens` is DPR's match, with the characters of scripts without spaces as tokens; in it an answer without
    any token is in every text. `substring` looks for the normalised answer in the normalised text, as DPR
    does for KILT.
    """
    searched_text = _searchable(text, match)
    for answer in answers:
        searched_answer = _searchable(answer, match)
        if searched_answer in searched_text or searched_answer == _BETWEEN * 2:
            return True
    return False


def first_hit(
    passages: Sequence[Passage],
    answers: Sequence[str],
    *,
    match: Match = "tokens",
    with_title: bool = False,
) -> int | None:
    """The 0-based rank of the first passage that contains a gold answer; None if none does.

    DPR looks at the text alone; `with_title` puts the title and " . " before it (its `use_title`).
    """
    for rank, passage in enumerate(passages):
        text = f"{passage.title} . {passage.text}" if with_title else passage.text
        if contains_answer(text, answers, match=match):
            return rank
    return None


def recall_at_k(
    passages: Sequence[Passage],
    answers: Sequence[str],
    k: int,
    *,
    match: Match = "tokens",
    with_title: bool = False,
) -> float:
    """1.0 if one of the first `k` passages contains a gold answer, else 0.0 (DPR's top-k accuracy)."""
    return float(first_hit(passages[:k], answers, match=match, with_title=with_title) is not None)


def full_recall(selected: Sequence[Passage], gold: Sequence[Passage]) -> float | None:
    """1.0 if every gold passage is among `selected`, else 0.0; None where no passage is known as gold."""
    if not gold:
        return None
    held = {passage.content for passage in selected}
    return float(all(passage.content in held for passage in gold))


class Support(NamedTuple):
    """How well predicted supports match the gold ones, each in [0, 1]."""

    exact_match: float
    f1: float
    precision: float
    recall: float


def support_of_counts(right: int, wrong: int, missed: int) -> Support:
    """Support scores from counts of predicted-and-gold, predicted-only and gold-only, as in
    hotpot_evaluate_v1.py: a fraction of nothing is 0, and exact match asks for no error of either kind."""
    precision = right / (right + wrong) if right + wrong else 0.0
    recall = right / (right + missed) if right + missed else 0.0
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return Support(float(wrong + missed == 0), harmonic, precision, recall)


def support_scores(selected: Sequence[Passage], gold: Sequence[Passage]) -> Support | None:
    """Precision, recall, F1 and exact match of the selected passages as a set against the gold ones;
    None where no passage is known as gold. (Sentence level, as HotpotQA has it: see `official`.)"""
    if not gold:
        return None
    selected_contents = {passage.content for passage in selected}
    gold_contents = {passage.content for passage in gold}
    return support_of_counts(
        len(selected_contents & gold_contents),
        len(selected_contents - gold_contents),
        len(gold_contents - selected_contents),
    )


def ranking_measures(
    ranked: Mapping[str, Sequence[Passage]],
    gold: Mapping[str, Sequence[Passage]],
    measures: Sequence[str] = ("nDCG@5", "AP"),
) -> dict[str, dict[str, float]]:
    """Measures of ir-measures, by measure and question id; questions without gold passages are left out.

    `ranked` and `gold` are passages by question id, best first and in any order; a passage that is
    ranked twice counts where it first stands. AP's mean over questions is MAP. Raises DataError for a
    measure that ir-measures does not know, and where it is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise DataError("nDCG and MAP need `ir-measures`: pip install 'ragdro[ranking]'") from error
    try:
        parsed = {name: ir_measures.parse_measure(name) for name in measures}
    except (ValueError, NameError) as error:
        raise DataError(f"no such measure among {', '.join(measures)}") from error
    judged = {question: passages for question, passages in gold.items() if passages}
    names: dict[tuple[str, str], str] = {}

    def name(passage: Passage) -> str:
        return names.setdefault(passage.content, str(len(names)))

    qrels = [
        ir_measures.Qrel(question, document, 1)
        for question, passages in judged.items()
        for document in dict.fromkeys(name(passage) for passage in passages)
    ]
    run = [
        ir_measures.ScoredDoc(question, document, float(-rank))
        for question in judged
        for rank, document in enumerate(dict.fromkeys(name(p) for p in ranked.get(question, ())))
    ]
    scores = {measure: dict.fromkeys(judged, 0.0) for measure in measures}
    if not qrels or not run:
        return scores
    back = {str(measure): given for given, measure in parsed.items()}
    for metric in ir_measures.iter_calc(list(parsed.values()), qrels, run):
        scores[back[str(metric.measure)]][metric.query_id] = float(metric.value)
    return scores
