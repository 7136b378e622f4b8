"""How much of what is needed a retriever found: the ceiling of everything that comes after it.

In: questions with their candidates, one at a time. Out: recall at several depths, each the mean over the
questions that it applies to. `answer` is DPR's top-k accuracy (a passage holds a gold answer), `gold` the
fraction of a question's gold passages, `full recall` whether they are all there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ragdro.evaluation.ranking import full_recall, recall_at_k, support_scores
from ragdro.types import Candidates, Question
from ragdro.units import number

DEPTHS = (1, 5, 20)
MEASURES = ("answer", "gold", "full recall")


@dataclass(slots=True)
class RetrievalRecall:
    """Sums over the questions seen so far."""

    depths: Sequence[int] = DEPTHS
    _values: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    _most: int = 0

    def watch(self, questions: Iterable[Question], retrieved: Iterable[Candidates]) -> Iterator[Candidates]:
        """Pass `retrieved` on, counting each question's candidates on the way."""
        for question, candidates in zip(questions, retrieved, strict=True):
            self.add(question, candidates)
            yield candidates

    def add(self, question: Question, candidates: Candidates) -> None:
        """Count one question; of fewer candidates than a depth all count."""
        gold = question.gold_passages
        self._most = max(self._most, len(candidates.passages))
        for k in self.depths:
            first = candidates.passages[:k]
            support = support_scores(first, gold)
            values = {
                "answer": recall_at_k(first, question.answers, k) if question.answers else None,
                "gold": None if support is None else support.recall,
                "full recall": full_recall(first, gold),
            }
            for name, value in values.items():
                if value is not None:
                    self._values.setdefault((name, k), []).append(value)

    def mean(self, measure: str, k: int) -> float | None:
        """A measure at depth `k`; None where no question has it, or so many candidates."""
        values = self._values.get((measure, k)) if k <= self._most else None
        return sum(values) / len(values) if values else None

    def as_lines(self) -> list[str]:
        """A small table, without the measures that no question has."""
        lines = ["recall     " + "".join(f"{f'@{k}':>8}" for k in self.depths)]
        for name in MEASURES:
            means = [self.mean(name, k) for k in self.depths]
            if any(m is not None for m in means):
                lines.append(f"{name:<11}" + "".join(f"{'–' if m is None else number(m):>8}" for m in means))
        return lines if len(lines) > 1 else []
