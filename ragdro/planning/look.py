"""What a first config has to know of data: counts, lengths, and what the questions bring.

In: questions, passages of a corpus, a tokenizer if there is one. Out: `Seen`. Lengths are of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ragdro.data import is_reference
from ragdro.planning.findings import sample
from ragdro.types import Passage, Question
from ragdro.units import counted

_HIGH = 0.98
"""Limits are chosen so that all but this fraction of texts are whole."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of questions: how many there are, bring candidates, passages, gold labels, rankings; the most
    candidates that one brings and the most gold passages that one has. Lengths in tokens that 98 % do not
    exceed."""

    questions: int
    with_candidates: int
    with_passages: int
    with_gold: int
    with_ranking: int
    references: bool
    most_brought: int
    most_gold: int
    question_tokens: int
    answer_tokens: int
    passage_tokens: int

    @property
    def brings_candidates(self) -> bool:
        """Whether every question brings something to select from."""
        return self.most_brought > 1 and self.with_candidates + self.with_passages >= self.questions

    def as_lines(self) -> list[str]:
        """What there is, for people."""
        parts = (
            ("candidates", self.with_candidates),
            ("passages", self.with_passages),
            ("gold passages", self.with_gold),
            ("rankings", self.with_ranking),
        )
        brought = [f"{name} with {count:,} of them" for name, count in parts if count]
        return [
            f"{counted(self.questions)}; {', '.join(brought) or 'none brings candidates or passages'}",
            f"98 % have at most {counted(self.question_tokens, 'tokens')} in the question,"
            f" {self.answer_tokens} in the answer, {self.passage_tokens} in a passage",
        ]


def look(questions: Sequence[Question], corpus: Sequence[Passage], count: Callable[[str], int]) -> Seen:
    """What `questions` bring, and how long they and the passages are by `count`."""
    brought = [q.candidates.passages if q.candidates else q.passages for q in questions]
    some = sample(questions)
    passages = sample(corpus) or sample([p for one in sample(brought, 50) for p in one])
    return Seen(
        questions=len(questions),
        with_candidates=sum(q.candidates is not None for q in questions),
        with_passages=sum(bool(q.passages) and q.candidates is None for q in questions),
        with_gold=sum(bool(q.gold_passages) for q in questions),
        with_ranking=sum(q.ranking is not None for q in questions),
        references=any(is_reference(p) for one in brought for p in one),
        most_brought=max(map(len, brought), default=0),
        most_gold=max((len(q.gold_passages) for q in questions), default=0),
        question_tokens=_high([count(q.question) for q in some]),
        answer_tokens=_high([count(q.answers[0]) for q in some if q.answers]),
        passage_tokens=_high([count(f"{p.title} {p.text}") for p in passages]),
    )


def _high(lengths: Sequence[int]) -> int:
    """The length that 98 % do not exceed; 0 for none."""
    ordered = sorted(lengths)
    return ordered[min(len(ordered) - 1, math.ceil(_HIGH * len(ordered)) - 1)] if ordered else 0
