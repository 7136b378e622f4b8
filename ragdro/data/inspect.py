"""What a source holds: `ragdro data inspect`.

Counts, lengths in tokens, how many answers occur in the passages, duplicates, and overlaps with another
source (two splits). Memory is some 20 bytes a record: texts are kept as 64-bit hashes.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from unicodedata import normalize

import numpy as np

from ragdro.data.containers import Source
from ragdro.data.formats import Format, recognise
from ragdro.data.loose import NO_NAMES, FieldNames
from ragdro.data.read import read_corpus, read_questions
from ragdro.types import Passage, Question
from ragdro.units import counted, number
from ragdro.unspaced import set_apart

_WORD = re.compile(r"\w+")

CountTokens: TypeAlias = Callable[[str], int]


def count_words(text: str) -> int:
    """The words between white space; in scripts without spaces a character counts as one."""
    return len(set_apart(text).split())


@dataclass
class Tally:
    """One text field over all records: lengths in tokens, and hashes to find repeats by."""

    lengths: array[int] = field(default_factory=lambda: array("L"))
    hashes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, key: object, length: int) -> None:
        """Counts one value by its key, with its length in tokens."""
        self.lengths.append(length)
        self.hashes.append(hash(key))

    @property
    def count(self) -> int:
        """How many values were added."""
        return len(self.hashes)

    @property
    def repeats(self) -> int:
        """How many of them repeat an earlier one."""
        return self.count - len(np.unique(np.asarray(self.hashes)))

    def shared_with(self, other: Tally) -> int:
        """How many different values both hold."""
        return len(np.intersect1d(np.asarray(self.hashes), np.asarray(other.hashes)))

    def quantiles(self) -> dict[str, float]:
        """Mean, median, 95th percentile and maximum of the lengths, in tokens; empty without values."""
        if not self.lengths:
            return {}
        lengths = np.asarray(self.lengths)
        middle, high = np.quantile(lengths, [0.5, 0.95])
        return {
            "mean": round(float(lengths.mean()), 1),
            "median": float(middle),
            "p95": float(high),
            "max": int(lengths.max()),
        }


@dataclass
class Inspection:
    """What was found in one source; `fields` are the tallies by name, their lengths in `unit`s."""

    source: str
    format: Format
    unit: str = "words"
    records: int = 0
    fields: dict[str, Tally] = field(default_factory=dict)
    without_answers: int = 0
    with_passages: int = 0
    with_gold: int = 0
    answer_in_passages: int = 0
    with_candidates: int = 0
    answer_in_candidates: int = 0
    skipped: list[str] = field(default_factory=list)
    overlaps: dict[str, int] = field(default_factory=dict)

    def tally(self, name: str) -> Tally:
        """The tally of a field, made on first use."""
        return self.fields.setdefault(name, Tally())

    def as_json(self) -> dict[str, object]:
        """Everything as plain values."""
        counts = (
            "records",
            "without_answers",
            "with_passages",
            "with_gold",
            "answer_in_passages",
            "with_candidates",
            "answer_in_candidates",
        )
        return {
            "source": self.source,
            "format": str(self.format),
            **{name: getattr(self, name) for name in counts},
            "fields": {
                name: {"count": tally.count, "repeats": tally.repeats, self.unit: tally.quantiles()}
                for name, tally in self.fields.items()
            },
            "overlaps": self.overlaps,
            "skipped": self.skipped,
        }

    def as_lines(self) -> list[str]:
        """The same as lines to read."""
        lines = [f"{self.source}: {self.format}", counted(self.records, "records")]
        for name, tally in self.fields.items():
            shown = ", ".join(f"{key} {value:g}" for key, value in tally.quantiles().items())
            lengths = "" if name.endswith(" ids") else f"; {self.unit}: {shown}"
            lines.append(f"  {name}: {tally.count:,} ({counted(tally.repeats, 'repeats')}){lengths}")
        if self.format.kind != "corpus":
            lines.append(
                f"  without answers: {self.without_answers:,}; with gold passages: {self.with_gold:,}"
            )
            for place in ("passages", "candidates"):
                total, hits = getattr(self, f"with_{place}"), getattr(self, f"answer_in_{place}")
                if total:
                    fraction = f"{hits:,} of {total:,} ({number(hits / total)})"
                    lines.append(f"  an answer occurs in the {place} of {fraction}")
        lines += [f"  shared with the other source: {counted(n, name)}" for name, n in self.overlaps.items()]
        return [*lines, *(f"  skipped: {problem}" for problem in self.skipped)]


def inspect(
    source: Source,
    *,
    against: Source | None = None,
    skip_bad: int = 0,
    aliases: str | Path | None = None,
    fields: FieldNames = NO_NAMES,
    count_tokens: CountTokens | None = None,
) -> Inspection:
    """Reads `source` once and says what it holds; `against` is another whose overlap is counted.

    `fields` are the user's names for our fields; without `count_tokens` lengths are in words. Ids and texts
    that two sources share count once each. Raises DataError as reading does.
    """
    source_format = recognise(source, fields)
    inspection = Inspection(str(source), source_format, "words" if count_tokens is None else "tokens")
    count = count_tokens or count_words
    if source_format.kind in ("corpus", "both"):
        corpus = read_corpus(source, skip_bad=skip_bad, fields=fields)
        for passage in corpus:
            _add_passage(inspection, passage, count)
            inspection.records += source_format.kind == "corpus"
        inspection.skipped += [str(error) for error in corpus.skipped]
    if source_format.kind in ("questions", "both"):
        questions = read_questions(source, skip_bad=skip_bad, aliases=aliases, fields=fields)
        for question in questions:
            inspection.records += 1
            _add_question(inspection, question, count)
        inspection.skipped += [str(error) for error in questions.skipped]
    if against is not None:
        other = inspect(against, skip_bad=skip_bad, aliases=aliases, fields=fields, count_tokens=count_tokens)
        shared = [name for name in inspection.fields if name in other.fields]
        inspection.overlaps = {
            name: inspection.fields[name].shared_with(other.fields[name]) for name in shared
        }
    return inspection


def _add_passage(inspection: Inspection, passage: Passage, count_tokens: CountTokens) -> None:
    inspection.tally("passage ids").add(passage.id, 1)
    inspection.tally("passages").add(passage.content, count_tokens(passage.text))


def _add_question(inspection: Inspection, question: Question, count_tokens: CountTokens) -> None:
    inspection.tally("question ids").add(question.id, 1)
    inspection.tally("questions").add(
        " ".join(question.question.lower().split()), count_tokens(question.question)
    )
    for answer in question.answers:
        inspection.tally("answers").add(answer, count_tokens(answer))
    inspection.without_answers += not question.answers
    inspection.with_gold += bool(question.gold_passages)
    for passage in question.passages:
        inspection.tally("passages").add(passage.content, count_tokens(passage.text))
    if question.passages and question.answers:
        inspection.with_passages += 1
        inspection.answer_in_passages += _occurs(question.answers, question.passages)
    if question.candidates is not None and question.answers:
        inspection.with_candidates += 1
        inspection.answer_in_candidates += _occurs(question.answers, question.candidates.passages)


def _occurs(answers: Iterable[str], passages: Iterable[Passage]) -> bool:
    """Whether a passage's text holds the words of an answer in a row, letters' case and punctuation aside."""
    answer_words = [words for answer in answers if (words := _words(answer)).strip()]
    texts = [_words(passage.text) for passage in passages]
    return any(words in text for words in answer_words for text in texts)


def _words(text: str) -> str:
    return f" {' '.join(_WORD.findall(set_apart(normalize('NFC', text)).lower()))} "
