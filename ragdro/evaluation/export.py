"""Predictions written in the official evaluation scripts' own formats, for leaderboards and cross-checks.

`hotpotqa` and `2wiki`: one object `{"answer": {id: str}, "sp": {}, "evidence": {}}` (sentences and triples
are not predicted here, so their maps stay as empty as the predictions leave them). `musique`:
`{"id", "predicted_answer", "predicted_support_idxs", "predicted_answerable"}` lines; the supports are the
selected passages that are paragraphs of the question. `kilt`: `{"id", "output": [{"answer", "provenance"}]}`
lines; provenance has `wikipedia_id` where the predictions name pages, and title and text elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from ragdro.access import refused
from ragdro.data import Source, read_gold
from ragdro.data.record import Record
from ragdro.errors import DataError
from ragdro.evaluation.predictions import Answered, PredictionFile, read_predictions
from ragdro.files import atomic_file
from ragdro.types import Question

ExportFormat: TypeAlias = Literal["hotpotqa", "2wiki", "musique", "kilt"]
_Row: TypeAlias = tuple[Answered, Record | None, Question | None]


def export_predictions(
    predictions: str | Path, out: str | Path, style: ExportFormat, *, data: Source | None = None
) -> int:
    """Writes `predictions` to `out` in `style`, whole or not at all; returns how many.

    With `data`, rows come in its order, which MuSiQue's script asks for, and every question of it must be
    answered. Raises DataError for files that cannot be read, a question without prediction, and
    an `out` that cannot be written; an existing one is replaced.
    """
    path = Path(out)
    prediction_file = read_predictions(predictions)
    rows = (
        [(row, None, None) for row in prediction_file.rows]
        if data is None
        else list(_in_order(prediction_file, data))
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            if style in ("hotpotqa", "2wiki"):
                file.write(orjson.dumps(_object(rows, style)) + b"\n")
            else:
                row_of = _musique_row if style == "musique" else _kilt_row
                for row in rows:
                    file.write(orjson.dumps(row_of(row)) + b"\n")
    except OSError as error:
        raise DataError(f"cannot be written: {refused(error, path)}", path=path) from error
    return len(rows)


def _in_order(prediction_file: PredictionFile, data: Source) -> Iterator[_Row]:
    by_id: dict[str, list[Answered]] = {}
    for row in prediction_file.rows:
        by_id.setdefault(row.id, []).append(row)
    for record, question in read_gold(data):
        waiting = by_id.get(question.id)
        if not waiting:
            raise DataError(
                f"has no prediction for question '{question.id}'", path=prediction_file.path, field="id"
            )
        yield (waiting.pop(0) if len(waiting) > 1 else waiting[0]), record, question


def _answer(row: Answered) -> str:
    if row.answer is None:
        raise DataError(f"prediction '{row.id}' has no answer", field="answer")
    return row.answer


def _object(rows: Sequence[_Row], style: ExportFormat) -> dict[str, dict[str, object]]:
    written: dict[str, dict[str, object]] = {
        "answer": {row.id: row.answer for row, _, _ in rows if row.answer is not None},
        "sp": {row.id: row.facts for row, _, _ in rows if row.facts is not None},
    }
    if style == "2wiki":
        written["evidence"] = {row.id: row.evidence for row, _, _ in rows if row.evidence is not None}
    return written


def _musique_row(entry: _Row) -> dict[str, object]:
    row, record, question = entry
    supports = list(row.support_indices or ())
    if row.support_indices is None and record is not None and question is not None:
        selected = {passage.content for passage in row.selection or ()}
        supports = [
            int(paragraph.number("idx"))
            for paragraph, passage in zip(record.records("paragraphs"), question.passages, strict=True)
            if passage.content in selected
        ]
    return {
        "id": row.id,
        "predicted_answer": _answer(row),
        "predicted_support_idxs": supports,
        "predicted_answerable": True if row.answerable is None else row.answerable,
    }


def _kilt_row(entry: _Row) -> dict[str, object]:
    row = entry[0]
    provenance: list[dict[str, str]] = [{"wikipedia_id": page} for page in row.pages or ()]
    if not provenance:
        provenance = [{"title": passage.title, "text": passage.text} for passage in row.selection or ()]
    return {"id": row.id, "output": [{"answer": _answer(row), "provenance": provenance}]}
