"""What happened in a run, in words: a pure function of its results and predictions.

In: `Evidence`. Out: a headline, why it is no better or what is left to gain, what to try next, and how far
the numbers can be trusted. The rules are in `ragdro.evaluation.rules` and docs/how-to/report.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ragdro.evaluation.diagnosis import faults
from ragdro.evaluation.evidence import Evidence
from ragdro.evaluation.rules import RULES, Rule
from ragdro.evaluation.significance import Interval
from ragdro.units import counted, number

Level: TypeAlias = Literal["better", "open", "worse"]
NAMES = {"exact_match": "exact match", "f1": "F1"}
_TRIED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule saw, and what it advises."""

    rule: Rule
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`level`: whether the interval of the difference lies above 0, holds it, or lies below.

    `causes`: why it is no better, or what is left to gain; `notes`: how far the numbers can be trusted.
    """

    level: Level
    headline: str
    summary: str
    causes: tuple[Finding, ...]
    notes: tuple[Finding, ...]

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What to try, the advice of the first causes, each once."""
        return tuple(dict.fromkeys(cause.rule.advice for cause in self.causes))[:_TRIED]

    def lines(self) -> list[tuple[str, str]]:
        """The verdict line by line, each with the word that stands before it."""
        because = "left to gain" if self.level == "better" else "because"
        return [
            ("", self.headline),
            ("", self.summary),
            *((because, finding.text) for finding in self.causes),
            *(("try next", step) for step in self.next_steps),
            *(("mind", finding.text) for finding in self.notes),
        ]


def verdict(evidence: Evidence) -> Verdict:
    """Judge a finished run."""
    findings = [Finding(rule, text) for rule in RULES if (text := rule.find(evidence)) is not None]
    gain = evidence.gain
    level: Level = "better" if gain.low > 0 else "worse" if gain.high < 0 else "open"
    return Verdict(
        level,
        headline(evidence, level),
        summary(evidence),
        tuple(f for f in findings if f.rule.kind == "cause"),
        tuple(f for f in findings if f.rule.kind == "note"),
    )


def headline(e: Evidence, level: Level) -> str:
    """The difference from vanilla RAG, with its interval and the questions that it is of."""
    name = NAMES.get(e.metric, e.metric)
    on = f"on {counted(e.questions, f'{e.split} questions')}"
    scores = f"({number(e.score(e.vanilla))} → {number(e.score(e.best))})"
    if level == "open":
        return f"No better than vanilla RAG: {plus_minus(e.gain, sign=True)} {name} {on} {scores}."
    word = "Better" if level == "better" else "Worse"
    size = Interval(*(abs(value) for value in e.gain))
    return f"{word} than vanilla RAG by {plus_minus(size)} {name} {on} {scores}."


def summary(e: Evidence) -> str:
    """How much of it is the loop's, and where the errors are."""
    all_, parts = faults(e.best)[0], []
    if e.iterations:
        parts.append(f"The loop's part, over the warm-up: {plus_minus(e.gain_of_the_loop, sign=True)}.")
    else:
        parts.append("Only the warm-up was run.")
    wrong = all_.read_wrong + all_.unread_wrong
    if wrong:
        parts.append(
            f"Of {wrong} wrong answer{'s'[: wrong != 1]} {all_.unread_wrong} lacked a passage that is needed;"
            f" {all_.read_wrong} had read what is needed."
        )
    return " ".join(parts)


def plus_minus(interval: Interval, *, sign: bool = False) -> str:
    """A mean and half the width of its interval."""
    half = abs(interval.high - interval.low) / 2
    return f"{number(interval.mean, sign=sign)} ± {number(half, like=interval.mean)}"


def as_text(lines: Sequence[tuple[str, str]]) -> str:
    """Plain lines."""
    return "\n".join(f"{word}: {text}" if word else text for word, text in lines)
