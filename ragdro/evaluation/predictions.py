"""Reading the predictions of any system: ours, `{id, answer}` lines, and the official prediction formats.

- `jsonl`: `{"id", "answer"}` a line, or a JSON list of them; a run's `predictions-*.jsonl` has `answers`
  and `selection` too.
- `hotpotqa`: one object `{"answer": {id: str}, "sp": {id: [[title, sentence]]}}`; 2Wiki adds `"evidence"`.
- `squad`: one object `{id: str}`.
- `musique`: `{"id", "predicted_answer", "predicted_support_idxs", "predicted_answerable"}` a line.
- `kilt`: `{"id", "output": [{"answer", "provenance": [{"wikipedia_id", …}]}]}` a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from ragdro.data.record import Record, parse
from ragdro.data.stream import MAX_RECORD_BYTES, chunks, elements, lines
from ragdro.errors import DataError
from ragdro.types import Passage

PredictionFormat: TypeAlias = Literal["jsonl", "hotpotqa", "squad", "musique", "kilt"]
Fact: TypeAlias = tuple[str, int]

_MAX_OBJECT_BYTES = 8 * MAX_RECORD_BYTES


@dataclass(frozen=True, slots=True)
class Answered:
    """What a system said to one question; what its file does not tell is None.

    `answers` are the gold answers that the file itself carries, `selection` the passages selected, best
    first, `facts` HotpotQA's supporting facts, `evidence` 2Wiki's triples, `support_indices` and
    `answerable` MuSiQue's, `pages` the Wikipedia ids of KILT's provenance, best first.
    """

    id: str
    answer: str | None
    question: str | None = None
    answers: tuple[str, ...] | None = None
    selection: tuple[Passage, ...] | None = None
    facts: tuple[Fact, ...] | None = None
    evidence: tuple[tuple[str, ...], ...] | None = None
    support_indices: tuple[int, ...] | None = None
    answerable: bool | None = None
    pages: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """A file of predictions: its format and its rows, in the file's order."""

    path: Path
    format: PredictionFormat
    rows: tuple[Answered, ...]


def read_predictions(path: str | Path) -> PredictionFile:
    """All predictions of a file, its format recognised by content.

    Raises DataError, naming file, line and field, for a file that is empty, damaged or in no format
    above, and for an id that repeats (MuSiQue-Full has each twice; its format alone may).
    """
    path = Path(path)
    whole = _one_object(path)
    prediction_file = _from_rows(path) if whole is None else _from_object(whole)
    if not prediction_file.rows:
        raise DataError("no predictions", path=path)
    if prediction_file.format != "musique":
        seen: set[str] = set()
        for row in prediction_file.rows:
            if row.id in seen:
                raise DataError(f"prediction id '{row.id}' appears twice", path=path, field="id")
            seen.add(row.id)
    return prediction_file


def _starts_with_list(path: Path) -> bool:
    first = next(lines(path), None)
    if first is None:
        raise DataError("no predictions", path=path)
    return first[1].lstrip()[:1] == b"["


def _one_object(path: Path) -> Record | None:
    """The file as one JSON object that maps ids; None where it is records, a line or an element each."""
    if _starts_with_list(path):
        return None
    numbered = lines(path)
    (line, first), second = next(numbered), next(numbered, None)
    if second is not None and _is_object(first):
        return None
    held = bytearray()
    for piece in chunks(path):
        held += piece
        if len(held) > _MAX_OBJECT_BYTES:
            raise DataError(f"one object of more than {_MAX_OBJECT_BYTES // 2**20} MiB", path=path)
    if second is not None and not _is_object(bytes(held)):
        parse(first, path, line, 0)  # says what is wrong with the first line
    record = parse(bytes(held), path, line, 0)
    one_row = "id" in record.fields or "_id" in record.fields
    return None if one_row else record


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(orjson.loads(data), dict)
    except orjson.JSONDecodeError:
        return False


def _from_object(whole: Record) -> PredictionFile:
    path = Path(str(whole.path))
    if not isinstance(whole.fields.get("answer"), dict):
        rows = tuple(Answered(key, _answer(whole, key)) for key in whole.fields)
        return PredictionFile(path, "squad", rows)
    answers = whole.record("answer")
    facts = whole.record("sp") if whole.has("sp") else None
    evidence = whole.record("evidence") if whole.has("evidence") else None
    keys = dict.fromkeys(
        (*answers.fields, *(facts.fields if facts else ()), *(evidence.fields if evidence else ()))
    )
    rows = tuple(
        Answered(
            key,
            _answer(answers, key) if key in answers.fields else None,
            facts=_facts(facts, key) if facts and facts.has(key) else None,
            evidence=_triples(evidence, key) if evidence and evidence.has(key) else None,
        )
        for key in keys
    )
    return PredictionFile(path, "hotpotqa", rows)


def _answer(record: Record, field: str) -> str:
    record.required(field)
    return record.string(field)


def _facts(record: Record, field: str) -> tuple[Fact, ...]:
    facts = []
    for index, value in enumerate(record.items(field)):
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            raise record.error("must be a title and a sentence number", f"{field}[{index}]")
        if isinstance(value[1], bool) or not isinstance(value[1], int):
            raise record.error("must be a title and a sentence number", f"{field}[{index}]")
        facts.append((value[0], value[1]))
    return tuple(facts)


def _triples(record: Record, field: str) -> tuple[tuple[str, ...], ...]:
    triples = []
    for index, value in enumerate(record.items(field)):
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise record.error("must be a list of strings", f"{field}[{index}]")
        triples.append(tuple(str(part) for part in value))
    return tuple(triples)


def _from_rows(path: Path) -> PredictionFile:
    numbered = elements(path) if _starts_with_list(path) else lines(path)
    rows: list[Answered] = []
    kind: PredictionFormat | None = None
    for position, (line, data) in enumerate(numbered):
        record = parse(data, path, line, position)
        kind = kind or _row_format(record)
        rows.append(_ROW_READERS[kind](record))
    return PredictionFile(path, kind or "jsonl", tuple(rows))


def _row_format(record: Record) -> PredictionFormat:
    if "predicted_answer" in record.fields:
        return "musique"
    if "output" in record.fields:
        return "kilt"
    if "answer" in record.fields:
        return "jsonl"
    names = ", ".join(str(name)[:40] for name in list(record.fields)[:12]) or "none"
    message = f"is no prediction that we read (fields: {names}; wanted: id and answer)"
    raise DataError(message, path=record.path, line=record.line)


def _id(record: Record) -> str:
    return record.identifier("_id" if record.has("_id") and not record.has("id") else "id")


def _plain_row(record: Record) -> Answered:
    selection = None
    if record.has("selection"):
        selection = tuple(
            Passage(entry.string("id"), entry.string("title"), entry.string("text"))
            for entry in record.records("selection")
        )
    return Answered(
        _id(record),
        _answer(record, "answer"),
        question=record.string("question") if record.has("question") else None,
        answers=_gold(record),
        selection=selection,
    )


def _gold(record: Record) -> tuple[str, ...] | None:
    if not record.has("answers"):
        return None
    return record.answers("answers") or None


def _musique_row(record: Record) -> Answered:
    indices: Iterable[object] = record.items("predicted_support_idxs")
    numbers = [index for index in indices if isinstance(index, int) and not isinstance(index, bool)]
    if len(numbers) < len(record.items("predicted_support_idxs")):
        raise record.error("must be a list of whole numbers", "predicted_support_idxs")
    return Answered(
        _id(record),
        _answer(record, "predicted_answer"),
        support_indices=tuple(numbers) if record.has("predicted_support_idxs") else None,
        answerable=record.flag("predicted_answerable"),
    )


def _kilt_row(record: Record) -> Answered:
    outputs = record.records("output")
    if len(outputs) != 1:
        raise record.error(f"must hold one output, holds {len(outputs)}", "output")
    output = outputs[0]
    value = output.required("answer")
    if isinstance(value, (dict, list)):
        raise output.error("must be a string", "answer")
    sources = output.records("provenance")
    pages = tuple(
        dict.fromkeys(str(s.fields["wikipedia_id"]).strip() for s in sources if "wikipedia_id" in s.fields)
    )
    selection = tuple(
        Passage(str(s.fields.get("wikipedia_id", "")), s.string("title"), s.string("text"))
        for s in sources
        if s.has("text")
    )
    return Answered(_id(record).strip(), str(value).strip(), selection=selection or None, pages=pages)


_ROW_READERS = {"jsonl": _plain_row, "musique": _musique_row, "kilt": _kilt_row}
