"""The official evaluation scripts' metrics, question by question, unrounded.

In: a gold record (`ragdro.data.read_gold`) and what a system answered. Out: metric → value of this question,
under the script's own names; a metric's score is its mean over the questions that have it. Where a file
lacks a question, it scores 0 in everything (as HotpotQA's and 2Wiki's scripts do; MuSiQue's and KILT's
refuse such a file). Written from the behaviour of these scripts, whose printed metrics are rounded where
noted:

- HotpotQA: hotpotqa/hotpot, hotpot_evaluate_v1.py.
- 2WikiMultiHopQA: Alab-NII/2wikimultihop, 2wikimultihop_evaluate_v1.1.py (prints percentages to 0.01).
- MuSiQue: StonyBrookNLP/musique, evaluate_v1.0.py with metrics/ (prints shares to 0.001).
- KILT: facebookresearch/KILT, kilt/eval_downstream.py and kilt/eval_retrieval.py.
- DPR: facebookresearch/DPR, dpr/data/qa_validation.py (reader's exact match).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import TypeAlias

from ragdro.data.hotpotqa import supporting_facts
from ragdro.data.record import Record
from ragdro.data.twowiki import Aliases
from ragdro.evaluation.metrics import Overlap, exact_match, f1, overlap, rouge_l
from ragdro.evaluation.predictions import Answered
from ragdro.evaluation.ranking import Support, support_of_counts
from ragdro.types import Question

Metrics: TypeAlias = dict[str, float]

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_OVERLAP = Overlap(0.0, 0.0, 0.0)


def _named(prefix: str, scores: Support) -> Metrics:
    return {
        f"{prefix}em": scores.exact_match,
        f"{prefix}f1": scores.f1,
        f"{prefix}prec": scores.precision,
        f"{prefix}recall": scores.recall,
    }


def _joint(parts: Sequence[Support]) -> Support:
    """The product of precisions and of recalls, and their harmonic mean: HotpotQA's joint metrics."""
    em, precision, recall = 1.0, 1.0, 1.0
    for part in parts:
        em, precision, recall = em * part.exact_match, precision * part.precision, recall * part.recall
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return Support(em, harmonic, precision, recall)


def _set_scores(predicted: Sequence[object], gold: Sequence[object]) -> Support:
    right = sum(entry in gold for entry in predicted)
    missed = sum(entry not in predicted for entry in gold)
    return support_of_counts(right, len(predicted) - right, missed)


def hotpotqa(record: Record, question: Question, answered: Answered | None, *, with_facts: bool) -> Metrics:
    """`em f1 prec recall`, and where the file has `sp`, `sp_*` at sentence level and `joint_*`."""
    said = None if answered is None else answered.answer
    parts = []
    if said is not None:
        shared = overlap(said, question.answers[0], rule="hotpotqa")
        parts.append(Support(exact_match(said, question.answers[:1], rule="hotpotqa"), *shared))
    metrics = _named("", parts[0] if parts else Support(0.0, *_NO_OVERLAP))
    if not with_facts:
        return metrics
    if answered is not None and answered.facts is not None:
        parts.append(_set_scores(list(set(answered.facts)), list(set(supporting_facts(record)))))
        metrics |= _named("sp_", parts[-1])
    else:
        metrics |= _named("sp_", support_of_counts(0, 0, 1))
    joint = _joint(parts) if len(parts) == 2 else support_of_counts(0, 0, 1)
    return metrics | _named("joint_", joint)


def twowiki(
    record: Record,
    question: Question,
    answered: Answered | None,
    *,
    with_facts: bool,
    with_evidence: bool,
    aliases: Aliases,
) -> Metrics:
    """`em f1 prec recall`, each the best over the answer and its aliases; `sp_*` with titles in lower
    case; `evi_*` over evidence triples and their entities' aliases; `joint_*` over all three."""
    nothing = support_of_counts(0, 0, 1)
    answer = facts = evidence = None
    if answered is not None and answered.answer is not None:
        answer = _best_answer(answered.answer, question.answers)
    metrics = _named("", answer or nothing)
    if with_facts:
        if answered is not None and answered.facts is not None:
            predicted = [(title.lower(), sentence) for title, sentence in set(answered.facts)]
            facts = _set_scores(
                predicted, [(t.lower(), sentence) for t, sentence in set(supporting_facts(record))]
            )
        metrics |= _named("sp_", facts or nothing)
    if with_evidence:
        if answered is not None and answered.evidence is not None:
            evidence = _evidence_scores(answered.evidence, _gold_evidence(record, aliases))
        metrics |= _named("evi_", evidence or nothing)
    if with_facts and with_evidence:
        joint = _joint([answer, facts, evidence]) if answer and facts and evidence else nothing
        metrics |= _named("joint_", joint)
    return metrics


def _best_answer(said: str, golds: Sequence[str]) -> Support:
    shared = [overlap(said, gold, rule="2wiki") for gold in golds]
    best = (max(column) for column in zip(*shared, strict=True))
    return Support(exact_match(said, golds, rule="2wiki"), *best)


def _evidence_text(text: str) -> str:
    return " ".join(text.lower().translate(_WITHOUT_PUNCTUATION).split())


def _gold_evidence(record: Record, aliases: Aliases) -> list[set[tuple[str, ...]]]:
    """For each gold triple, all its spellings by the aliases of its two entities."""
    ids = [value for value in record.items("evidences_id") if isinstance(value, list)]
    spellings: list[set[tuple[str, ...]]] = []
    for index, triple in enumerate(record.items("evidences")):
        if not isinstance(triple, list) or len(triple) != 3 or not all(isinstance(t, str) for t in triple):
            raise record.error("must be three strings", f"evidences[{index}]")
        subjects, objects = {str(triple[0])}, {str(triple[2])}
        if index < len(ids) and len(ids[index]) == 3:
            subjects.update(aliases.get(str(ids[index][0]), ()))
            objects.update(aliases.get(str(ids[index][2]), ()))
        spellings.append(
            {
                (_evidence_text(s), _evidence_text(str(triple[1])), _evidence_text(o))
                for s in subjects
                for o in objects
            }
        )
    return spellings


def _evidence_scores(predicted: Sequence[tuple[str, ...]], gold: Sequence[set[tuple[str, ...]]]) -> Support:
    said = {tuple(_evidence_text(part) for part in triple) for triple in predicted}
    right = sum(any(triple in spellings for spellings in gold) for triple in said)
    precision = right / len(said) if said else 0.0
    recall = right / len(gold) if gold else 0.0
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return Support(float(right == len(said) == len(gold)), harmonic, precision, recall)


def musique_answers(record: Record) -> tuple[str, ...]:
    """The answer and its aliases as the file has them, empty ones included."""
    aliases = (alias for alias in record.items("answer_aliases") if isinstance(alias, str))
    return (record.string("answer"), *aliases)


def musique(record: Record, answered: Answered | None) -> Metrics:
    """`answer_em answer_f1 support_em support_f1` of one answerable instance; nothing of another."""
    if record.flag("answerable") is False:
        return {}
    metrics = dict.fromkeys(("answer_em", "answer_f1"), 0.0)
    if answered is not None and answered.answer is not None:
        golds = musique_answers(record)
        metrics["answer_em"] = exact_match(answered.answer, golds, rule="musique")
        metrics["answer_f1"] = f1(answered.answer, golds, rule="musique")
    if answered is None or answered.support_indices is not None:
        support = _musique_support(record, () if answered is None else answered.support_indices or ())
        scored_support = Support(0.0, 0.0, 0.0, 0.0) if answered is None else support
        metrics |= {"support_em": scored_support.exact_match, "support_f1": scored_support.f1}
    return metrics


def _musique_support(record: Record, predicted: Sequence[int]) -> Support:
    gold = {int(p.number("idx")) for p in record.records("paragraphs") if p.flag("is_supporting")}
    said = set(predicted)
    if not gold and not said:
        return Support(1.0, 1.0, 1.0, 1.0)
    return support_of_counts(len(said & gold), len(said - gold), len(gold - said))


def musique_group(pair: Sequence[tuple[Record, Answered | None]]) -> Metrics:
    """MuSiQue-Full: the scores of a question's two instances together, 0 unless both are rightly called
    answerable or not."""
    right = all(
        answered is not None and answered.answerable == record.flag("answerable") for record, answered in pair
    )
    scores: Metrics = {}
    for record, answered in pair:
        scores |= musique(record, answered)
    return {
        f"group_{name}_sufficiency_f1": scores.get(f"{name}_f1", 0.0) if right else 0.0
        for name in ("answer", "support")
    }


def kilt(record: Record, question: Question, answered: Answered | None) -> Metrics:
    """`accuracy em f1 rougel` (accuracy: equal strings), `Rprec recall@5` by Wikipedia page, and `KILT-*`,
    which count an answer only where R-precision is 1. An empty prediction scores 0."""
    said = "" if answered is None or answered.answer is None else answered.answer.strip()
    golds = question.answers
    metrics = {
        "accuracy": float(said in golds),
        "em": exact_match(said, golds, rule="kilt"),
        "f1": f1(said, golds, rule="kilt"),
        "rougel": rouge_l(said, golds),
    }
    pages = () if answered is None or answered.pages is None else answered.pages
    precision = _r_precision(record, pages)
    rated = {f"KILT-{name}": value if precision == 1 else 0.0 for name, value in metrics.items()}
    return metrics | rated | {"Rprec": precision, "recall@5": _page_recall(record, pages, 5)}


def _gold_pages(record: Record) -> list[list[str]]:
    """For each gold output with provenance, its pages without repeats."""
    return [
        list(dict.fromkeys(str(source.fields.get("wikipedia_id", "")).strip() for source in sources))
        for sources in (
            out.records("provenance") for out in record.records("output") if out.has("provenance")
        )
    ]


def _r_precision(record: Record, pages: Sequence[str]) -> float:
    best = 0.0
    for gold in _gold_pages(record):
        gold_pages = [page for page in gold if page]
        if gold_pages:
            best = max(best, sum(page in gold_pages for page in pages[: len(gold_pages)]) / len(gold_pages))
    return best


def _page_recall(record: Record, pages: Sequence[str], k: int) -> float:
    """The fraction of distinct gold page sets completed within the first `k` ranks, a set counting as one
    rank: the one at which its last page stands, its earlier pages taken out."""
    remaining: list[set[str]] = []
    for gold in _gold_pages(record):
        if set(gold) not in remaining:
            remaining.append(set(gold))
    if not pages or not remaining:
        return 0.0
    distinct = len(remaining)
    ranks: list[int | bool] = []  # True: a set is complete; False: a page of no set; n: set n, in part
    for page in pages:
        holding = [number for number, pending in enumerate(remaining, start=2) if page in pending]
        for number in holding:
            if number in ranks:
                ranks.remove(number)
            remaining[number - 2].remove(page)
            ranks.append(number if remaining[number - 2] else True)
        if not holding:
            ranks.append(False)
    return sum(rank is True for rank in ranks[:k]) / distinct


def dpr(question: Question, answered: Answered | None) -> Metrics:
    """`em`: the reader's exact match."""
    if answered is None or answered.answer is None:
        return {"em": 0.0}
    return {"em": exact_match(answered.answer, question.answers, rule="dpr")}
