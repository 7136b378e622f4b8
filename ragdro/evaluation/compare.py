"""Two systems compared question by question: `ragdro compare`.

In: two prediction files, or two run folders (their `predictions-*.jsonl`, one level of subfolders
included; files of the same name are compared, each as a dataset of its own). Out: for each dataset and
metric both means, the difference `second − first` with its 95 % paired bootstrap interval, and the p-value
of a paired permutation test, as it is and by Holm over the datasets of that metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ragdro.access import absent
from ragdro.data import Source
from ragdro.errors import DataError
from ragdro.evaluation.metrics import Normalisation, Rule, exact_match, f1
from ragdro.evaluation.predictions import PredictionFile, read_predictions
from ragdro.evaluation.ranking import recall_at_k
from ragdro.evaluation.score import score
from ragdro.evaluation.significance import Interval, holm, paired_bootstrap, paired_permutation_test
from ragdro.units import counted, number

_RECALL_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of one dataset. `questions` were answered by both; `left_out` by one of them only."""

    dataset: str
    metric: str
    questions: int
    left_out: int
    first: float
    second: float
    difference: Interval
    p_value: float
    p_holm: float

    def as_json(self) -> dict[str, object]:
        """The comparison as plain values."""
        return {**asdict(self), "difference": self.difference._asdict()}

    def as_line(self) -> str:
        """The comparison as one line without its dataset, fractions of 1; within 80 columns."""
        low, high = self.difference.low, self.difference.high
        interval = f"[{number(low, sign=True)}, {number(high, sign=True)}]"
        return (
            f"  {self.metric:<11}  {number(self.first)} → {number(self.second)}"
            f"  {number(self.difference.mean, sign=True):>6} {interval:<16}"
            f"  p {self.p_value:.4f}, Holm {self.p_holm:.4f}"
        )


def as_lines(compared: Sequence[Comparison]) -> list[str]:
    """Comparisons to read: a line for each dataset with its number of questions, then one for each metric."""
    lines: list[str] = []
    for before, one in zip((None, *compared), compared, strict=False):
        heading = _heading(one)
        if before is None or _heading(before) != heading:
            lines.append(heading)
        lines.append(one.as_line())
    return lines


def _heading(one: Comparison) -> str:
    left_out = f"; {one.left_out:,} answered by one of the two only" if one.left_out else ""
    return f"{one.dataset}: {counted(one.questions)}{left_out}"


def prediction_files(source: str | Path) -> dict[str, Path]:
    """The prediction files of a run folder by stage (`warm-up`, `nq/warm-up`), or one file under its name.

    Raises DataError for a folder without any, and for a path that is not there.
    """
    path = Path(source)
    if path.is_file():
        return {path.name: path}
    if not path.is_dir():
        raise DataError(absent(path, "file or folder"), path=path)
    file_of_stage = {}
    for file in sorted([*path.glob("predictions-*.jsonl"), *path.glob("*/predictions-*.jsonl")]):
        stage = file.stem.removeprefix("predictions-")
        file_of_stage[stage if file.parent == path else f"{file.parent.name}/{stage}"] = file
    if not file_of_stage:
        raise DataError("has no predictions-*.jsonl; list the runs with: ragdro runs", path=path)
    return file_of_stage


def compare(
    first: str | Path,
    second: str | Path,
    generator: np.random.Generator,
    *,
    data: Source | None = None,
    normalisation: Normalisation = "squad",
    rule: Rule | None = None,
    stage: str | None = None,
    resamples: int = 10_000,
) -> list[Comparison]:
    """The comparisons of `first` and `second`, by dataset and metric.

    `data` has the gold answers where the predictions do not carry them; `stage` keeps the run folders'
    files of that name alone. Raises DataError for files without gold answers or without a question in
    common, and for folders without a file name in common.
    """
    pairs = _paired_files(first, second, stage)
    compared: list[Comparison] = []
    for name, (left_file, right_file) in pairs.items():
        left, right = (
            _scores(file, data, normalisation, rule, generator) for file in (left_file, right_file)
        )
        for metric in (name_ for name_ in left if name_ in right):
            compared.append(_compared(name, metric, left[metric], right[metric], generator, resamples))
    for metric in dict.fromkeys(entry.metric for entry in compared):
        adjusted = holm({e.dataset: e.p_value for e in compared if e.metric == metric})
        compared = [_adjusted(e, adjusted[e.dataset]) if e.metric == metric else e for e in compared]
    return compared


def _adjusted(comparison: Comparison, p_holm: float) -> Comparison:
    values = {name: getattr(comparison, name) for name in comparison.__slots__}
    return Comparison(**{**values, "p_holm": p_holm})


def _paired_files(first: str | Path, second: str | Path, stage: str | None) -> dict[str, tuple[Path, Path]]:
    left, right = prediction_files(first), prediction_files(second)
    if Path(first).is_file() and Path(second).is_file():
        (left_file,), (right_file,) = left.values(), right.values()
        return {left_file.name: (left_file, right_file)}
    common = [name for name in left if name in right and (stage is None or name.split("/")[-1] == stage)]
    if not common:
        if Path(first).is_file() or Path(second).is_file():
            raise DataError("give two run folders or two prediction files, not one of each", path=first)
        shared = "of a stage that" if stage is None else f"of stage {stage!r} that"
        there = "; ".join(f"{run}: {', '.join(files)}" for run, files in ((first, left), (second, right)))
        raise DataError(f"has no predictions {shared} {second} has too; what is there: {there}", path=first)
    return {name: (left[name], right[name]) for name in common}


def _scores(
    file: Path,
    data: Source | None,
    normalisation: Normalisation,
    rule: Rule | None,
    generator: np.random.Generator,
) -> dict[str, dict[str, float]]:
    """Metric → question id → value: by `data`'s gold answers, or by those that the predictions carry."""
    if data is not None:
        scored = score(data, file, generator, normalisation=normalisation, rule=rule, resamples=1)
        compared = ("exact_match", "f1", f"recall_at_{_RECALL_DEPTH}", "full_recall")
        return {name: scored.per_question[name] for name in compared if name in scored.per_question}
    return _own_scores(read_predictions(file), normalisation, rule or "squad")


def _own_scores(
    prediction_file: PredictionFile, normalisation: Normalisation, rule: Rule
) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {"exact_match": {}, "f1": {}}
    reached = any(len(row.selection or ()) >= _RECALL_DEPTH for row in prediction_file.rows)
    for row in prediction_file.rows:
        if not row.answers or row.answer is None:
            message = f"prediction '{row.id}' carries no gold answers: name the data (--data)"
            raise DataError(message, path=prediction_file.path, field="answers")
        scores["exact_match"][row.id] = exact_match(
            row.answer, row.answers, normalisation=normalisation, rule=rule
        )
        scores["f1"][row.id] = f1(row.answer, row.answers, normalisation=normalisation, rule=rule)
        if reached and row.selection is not None:
            recall = recall_at_k(row.selection, row.answers, _RECALL_DEPTH)
            scores.setdefault(f"recall_at_{_RECALL_DEPTH}", {})[row.id] = recall
    return scores


def _compared(
    dataset: str,
    metric: str,
    left: Mapping[str, float],
    right: Mapping[str, float],
    generator: np.random.Generator,
    resamples: int,
) -> Comparison:
    shared = [question for question in left if question in right]
    if not shared:
        raise DataError(f"the two have no question of {dataset} in common")
    first, second = [left[q] for q in shared], [right[q] for q in shared]
    return Comparison(
        dataset=dataset,
        metric=metric,
        questions=len(shared),
        left_out=len(left) + len(right) - 2 * len(shared),
        first=float(np.mean(first)),
        second=float(np.mean(second)),
        difference=paired_bootstrap(first, second, generator, resamples=resamples),
        p_value=paired_permutation_test(first, second, generator, resamples=resamples),
        p_holm=1.0,
    )
