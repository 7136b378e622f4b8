"""Whose fault a wrong answer is, from predictions alone: no model is asked and nothing is judged.

In: records as `predictions-*.jsonl` holds them. Out: counts and fractions of 1. After RAGChecker (Ru et al.
2024), with string matches in place of its judge: was what is needed read, and was the answer right?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ragdro.evaluation.metrics import overlap
from ragdro.types import Passage
from ragdro.unspaced import set_apart

Record: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Faults:
    """How many questions there are of each kind; `label` says which questions (`all`, `2-hop`).

    `read`: all gold passages were selected; where none are labelled, a passage that holds a gold answer was.
    """

    label: str
    read_right: int = 0
    read_wrong: int = 0
    unread_right: int = 0
    unread_wrong: int = 0

    @property
    def questions(self) -> int:
        """All of them."""
        return self.read + self.unread

    @property
    def read(self) -> int:
        """Those whose passages held what is needed."""
        return self.read_right + self.read_wrong

    @property
    def unread(self) -> int:
        """The others."""
        return self.unread_right + self.unread_wrong

    @property
    def context_use(self) -> float | None:
        """The fraction answered right of those whose passages held what is needed; None where there are
        none."""
        return self.read_right / self.read if self.read else None

    @property
    def right_unread(self) -> float | None:
        """The fraction answered right of the others: from the model's own knowledge, or by luck."""
        return self.unread_right / self.unread if self.unread else None


def was_read(record: Record) -> bool:
    """Whether what is needed was read: all gold passages, or without labels a passage with a gold answer."""
    labelled = record.get("full_recall")
    return bool(record["answer_read"] if labelled is None else labelled)


def is_right(record: Record) -> bool:
    """Whether the answer is an exact match."""
    return bool(record["exact_match"])


def faults(records: Sequence[Record]) -> list[Faults]:
    """Of all questions, then by number of hops where the data says it."""
    hops = sorted({r["hops"] for r in records if r.get("hops") is not None})
    parts = [("all", records)]
    if len(hops) > 1:
        parts += [(f"{h}-hop", [r for r in records if r.get("hops") == h]) for h in hops]
    return [_counted(label, part) for label, part in parts]


def _counted(label: str, records: Sequence[Record]) -> Faults:
    kinds = [(was_read(r), is_right(r)) for r in records]
    return Faults(
        label,
        read_right=kinds.count((True, True)),
        read_wrong=kinds.count((True, False)),
        unread_right=kinds.count((False, True)),
        unread_wrong=kinds.count((False, False)),
    )


def ceiling(records: Sequence[Record]) -> float | None:
    """The fraction of questions whose candidates hold what is needed: no selection reads it more often.

    None where the records do not say what the candidates hold.
    """
    return mean([in_candidates(r) for r in records])


def in_candidates(record: Record) -> float | None:
    """Whether the candidates hold all gold passages, or without labels a gold answer."""
    labelled: float | None = record.get("gold_in_candidates")
    return record.get("answer_in_candidates") if labelled is None else labelled


def k_precision(answer: str, read: Sequence[Passage]) -> float | None:
    """The fraction of the answer's words that stand in the passages read (Adlakha et al. 2024, K-precision).

    In scripts without spaces between words a character counts as one. None for an answer without words.
    """
    answer = set_apart(answer)
    knowledge = set_apart(" ".join(f"{passage.title} {passage.text}" for passage in read))
    if not overlap(answer, answer).precision:
        return None
    return overlap(answer, knowledge).precision


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
