"""The candidates file: JSON lines, one question's top-N list a line, best first.

    {"question_id": "q1", "passages": [{"id": ..., "title": ..., "text": ...}, ...], "scores": [3.1, ...]}

`scores` is null where there are none; a passage has `gold` and `source` where they are known.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ragdro.data.stream import lines
from ragdro.errors import DataError, brief
from ragdro.files import atomic_file
from ragdro.retrieval.store import decode_passage, encode_passage
from ragdro.types import Candidates, Passage
from ragdro.units import counted

_LARGEST = 1e300
"""Scores beyond it, infinite ones and NaN are refused."""


def write_candidates(path: Path, candidates: Iterable[Candidates]) -> int:
    """Write the file whole or not at all; returns the number of questions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_file(path) as file:
        for of_question in candidates:
            file.write(encode_line(of_question))
            count += 1
    return count


def write_passages(path: Path, passages: Iterable[Passage]) -> int:
    """Write a corpus file, whole or not at all; returns the number of passages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with atomic_file(path) as file:
        for passage in passages:
            file.write(_line(encode_passage(passage)))
            count += 1
    return count


def read_candidates(path: Path) -> Iterator[Candidates]:
    """The lists of the file, in order; passages that occur again are the same object.

    DataError names file, line and field of what cannot be read.
    """
    seen: dict[Passage, Passage] = {}
    for number, line in lines(path):
        yield decode_line(line, seen, path, number)


def encode_line(candidates: Candidates) -> bytes:
    """One line of the file, its line end included."""
    values = {
        "question_id": candidates.question_id,
        "passages": [encode_passage(passage) for passage in candidates.passages],
        "scores": None if candidates.scores is None else list(candidates.scores),
    }
    return _line(values)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def decode_line(line: bytes, seen: dict[Passage, Passage], path: Path, number: int) -> Candidates:
    """The inverse of `encode_line`; `seen` collects the passages, so that equal ones share memory."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({brief(str(error))})", path=path, line=number) from error
    if not isinstance(values, dict):
        raise DataError("not a JSON object", path=path, line=number)
    question_id = values.get("question_id")
    if not isinstance(question_id, str):
        raise DataError(f"not a string: {brief(question_id)}", path=path, line=number, field="question_id")
    passages = _passages(values.get("passages"), path, number)
    scores = values.get("scores")
    if scores is not None and not _are_numbers(scores, len(passages)):
        raise DataError(
            f"not {counted(len(passages), 'numbers')}: {brief(scores)}",
            path=path,
            line=number,
            field="scores",
        )
    return Candidates(
        question_id,
        tuple(seen.setdefault(passage, passage) for passage in passages),
        None if scores is None else tuple(float(score) for score in scores),
    )


def _passages(values: Any, path: Path, number: int) -> list[Passage]:
    if not isinstance(values, list):
        raise DataError(f"not a list: {brief(values)}", path=path, line=number, field="passages")
    for index, value in enumerate(values):
        for name in ("id", "title", "text"):
            if not isinstance(value, dict) or not isinstance(value.get(name), str):
                field = f"passages[{index}].{name}"
                raise DataError(
                    f"missing, or not a string, in {brief(value)}", path=path, line=number, field=field
                )
    return [decode_passage(value) for value in values]


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        and all(abs(value) < _LARGEST for value in values)
    )
