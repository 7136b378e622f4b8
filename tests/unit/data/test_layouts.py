"""A format is recognised by its content, in any layout; lines are numbered, and bad records said."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ragdro.data import (
    read_questions,
    recognise,
)
from ragdro.errors import DataError
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put, questions


@pytest.mark.parametrize("name", o.QUESTION_FILES)
def test_recognition_is_by_content_and_survives_compression_and_layout(tmp_path: Path, name: str) -> None:
    plain = o.QUESTION_FILES[name]
    records = json.loads(plain) if plain[:1] == b"[" else [json.loads(x) for x in plain.splitlines()]
    expected = questions(tmp_path, plain)
    variants = {
        "none": b"\xef\xbb\xbf" + plain,
        "gzip": gzip.compress(o.listed(*records)),
        "zstd": zstandard.compress(o.jsonl(*records)[:40]) + zstandard.compress(o.jsonl(*records)[40:]),
    }
    for compression, data in variants.items():
        path = put(tmp_path, data, "misleading.tsv")
        source_format = recognise(path)
        assert (source_format.name, source_format.kind, source_format.compression) == (
            name,
            "questions",
            compression,
        )
        assert list(read_questions(path)) == expected


def test_a_list_longer_than_a_chunk_keeps_its_line_numbers(tmp_path: Path) -> None:
    long = {"id": "x", "question": 'a "quoted" [bracket] \\ and }' + "ü" * 900_000, "answers": ["a"]}
    records: list[dict[str, Any]] = [{**long, "id": str(n)} for n in range(4)]
    records[3]["question"] = 5
    path = put(
        tmp_path, ("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "]\n").encode()
    )
    reading = read_questions(path)
    assert [next(reading).question for _ in range(3)] == [long["question"]] * 3
    with pytest.raises(DataError, match=r"file:5: field 'question': must be a string, is a number; mend it"):
        next(reading)


def test_a_hugging_face_dataset_in_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    put(tmp_path, o.jsonl(o.NQ_OPEN, {"question": "second", "answer": ["b"]}), "made/train.jsonl")
    put(tmp_path, o.jsonl({"question": "third", "answer": ["c"]}), "made/test.jsonl")
    name = f"hf:{tmp_path / 'made'}"
    assert [q.question for q in read_questions(f"{name}:train")] == ["who founded arlen", "second"]
    with pytest.raises(DataError, match=r"has the splits test, train: name one"):
        read_questions(name)
    with pytest.raises(DataError, match="cannot be loaded"):
        read_questions(f"{name}:nonesuch")


def test_bad_records_are_tolerated_logged_and_exposed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"question": "q", "answer": ["a"]}
    path = put(
        tmp_path, b"not json\n" + o.jsonl(good, {"question": 7, "answer": ["a"]}, good, {"answer": ["b"]})
    )
    with caplog.at_level(logging.WARNING):
        reading = read_questions(path, skip_bad=3)
        assert [q.id for q in reading] == ["nq-open-1", "nq-open-3"]
    assert [error.line for error in reading.skipped] == [1, 3, 5]
    assert [error.field for error in reading.skipped] == [None, "question", "question"]
    assert len(caplog.records) == 3 and f"{path}:3: field 'question'" in caplog.text
    with pytest.raises(DataError) as caught:
        list(read_questions(path, skip_bad=2))
    assert caught.value.line == 5
