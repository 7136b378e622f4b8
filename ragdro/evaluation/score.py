"""Scoring a file of predictions against a file of questions: `ragdro score`, without torch.

In: data in any format that `ragdro.data` reads, predictions in any that `predictions` reads. Out: metrics
(means over questions, fraction of 1) with bootstrap intervals: the metrics common to all data, and where the
data has an official evaluation script, that script's own metrics under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ragdro.data import Source, read_gold
from ragdro.data.read import alias_map
from ragdro.data.record import Record
from ragdro.errors import DataError
from ragdro.evaluation.metrics import Normalisation, Rule
from ragdro.evaluation.per_question import Pair, common_metrics, official_metrics
from ragdro.evaluation.predictions import Answered, PredictionFile, read_predictions
from ragdro.evaluation.significance import Interval, bootstrap_intervals
from ragdro.types import Question
from ragdro.units import number

RULE_OF_FORMAT: Mapping[str, Rule] = {
    "hotpotqa": "hotpotqa",
    "2wikimultihopqa": "2wiki",
    "musique": "musique",
    "kilt": "kilt",
    "dpr": "dpr",
}
_COUNTS = ("questions", "missing", "empty", "unknown")
_PLACES = ("data", "predictions", "data_format", "prediction_format", "rule", "normalisation")


@dataclass(frozen=True, slots=True)
class Score:
    """What `score` found. `per_question` holds each metric's value by question id, for comparisons."""

    data: str
    predictions: str
    data_format: str
    prediction_format: str
    rule: Rule
    normalisation: Normalisation
    questions: int
    missing: int
    empty: int
    unknown: int
    metrics: dict[str, Interval]
    official: dict[str, Interval]
    per_question: dict[str, dict[str, float]] = field(repr=False)

    def as_json(self) -> dict[str, object]:
        """The metrics as plain values: `{"exact_match": x, …, "intervals": {…}, "official": {…}}`."""
        counts = {name: getattr(self, name) for name in (*_PLACES, *_COUNTS)}
        return {
            **counts,
            **{name: interval.mean for name, interval in self.metrics.items()},
            "official": {name: interval.mean for name, interval in self.official.items()},
            "intervals": {
                name: [interval.low, interval.high]
                for name, interval in {**self.metrics, **_prefixed(self.official)}.items()
            },
        }

    def as_lines(self) -> list[str]:
        """The metrics as a table of lines, fractions of 1."""
        title = f"{self.predictions} ({self.prediction_format}) on {self.data} ({self.data_format})"
        rules = f"rule {self.rule}, normalisation {self.normalisation}, 95 % bootstrap intervals"
        counts = ", ".join(f"{name} {getattr(self, name)}" for name in _COUNTS)
        rows = [_row(name, interval) for name, interval in self.metrics.items()]
        if self.official:
            rows += ["", "as the official script names them:"]
            rows += [_row(name, interval) for name, interval in self.official.items()]
        return [title, counts, rules, "", *rows]


def _row(name: str, interval: Interval) -> str:
    return f"{name:<30}{number(interval.mean)}   [{number(interval.low)}, {number(interval.high)}]"


def _prefixed(metrics: Mapping[str, Interval]) -> dict[str, Interval]:
    return {f"official.{name}": interval for name, interval in metrics.items()}


def score(
    data: Source,
    predictions: str | Path,
    generator: np.random.Generator,
    *,
    normalisation: Normalisation = "squad",
    rule: Rule | None = None,
    aliases: str | Path | None = None,
    skip_bad: int = 0,
    resamples: int = 10_000,
) -> Score:
    """Scores `predictions` on `data`.

    `rule` decides the corners in which the official scripts differ (None: by the data's format). A
    question that the predictions lack scores 0 and is counted in `missing`. Raises DataError for files
    that cannot be read, questions without answers, and predictions of which no id is in the data.
    """
    prediction_file = read_predictions(predictions)
    reading = read_gold(data, skip_bad=skip_bad, aliases=aliases)
    pairs = _paired(list(reading), prediction_file)
    rule = rule or RULE_OF_FORMAT.get(reading.format.name, "squad")
    names = alias_map(data, aliases) if reading.format.name == "2wikimultihopqa" else {}
    by_metric = common_metrics(pairs, normalisation, rule)
    by_official = official_metrics(pairs, reading.format.name, prediction_file, names)
    known = {pair.question.id for pair in pairs}
    said = [pair.answered.answer for pair in pairs if pair.answered and pair.answered.answer is not None]
    return Score(
        data=str(data),
        predictions=str(predictions),
        data_format=reading.format.name,
        prediction_format=prediction_file.format,
        rule=rule,
        normalisation=normalisation,
        questions=len(pairs),
        missing=len(pairs) - len(said),
        empty=sum(not answer.strip() for answer in said),
        unknown=sum(row.id not in known for row in prediction_file.rows),
        metrics=intervals(by_metric, generator, resamples),
        official=intervals(by_official, generator, resamples),
        per_question=by_metric,
    )


def _paired(gold: Sequence[tuple[Record, Question]], prediction_file: PredictionFile) -> list[Pair]:
    """Gold records with their predictions; an id that stands twice (MuSiQue-Full) takes them in order."""
    rows: dict[str, list[Answered]] = {}
    for row in prediction_file.rows:
        rows.setdefault(row.id, []).append(row)
    pairs = []
    for record, question in gold:
        if not question.answers:
            raise record.error(f"question '{question.id}' has no answers to score against", "answers")
        waiting = rows.get(question.id)
        pairs.append(Pair(record, question, waiting.pop(0) if waiting else None))
    if not any(pair.answered for pair in pairs):
        example = f"'{prediction_file.rows[0].id}' against '{pairs[0].question.id}'"
        raise DataError(
            f"no id is that of a question of the data (such as {example})",
            path=prediction_file.path,
            field="id",
        )
    return pairs


def intervals(
    metrics: Mapping[str, Mapping[str, float]], generator: np.random.Generator, resamples: int
) -> dict[str, Interval]:
    """The mean of each metric over its questions with its 95 % bootstrap interval; metrics over the same
    questions share their resamples."""
    by_questions: dict[tuple[str, ...], list[str]] = {}
    for name, values in metrics.items():
        by_questions.setdefault(tuple(values), []).append(name)
    interval_of_metric: dict[str, Interval] = {}
    for questions, names in by_questions.items():
        matrix = np.array([[metrics[name][question] for name in names] for question in questions])
        interval_of_metric |= dict(
            zip(names, bootstrap_intervals(matrix, generator, resamples=resamples), strict=True)
        )
    return {name: interval_of_metric[name] for name in metrics}
