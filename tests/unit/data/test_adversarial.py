"""Broken files of every format: read, or refused in one line of our own; never a traceback."""

from __future__ import annotations

import gzip
import json
import random
import tempfile
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ragdro.data import read_corpus, read_questions, recognise, stream
from ragdro.data.convert import convert
from ragdro.errors import DataError
from tests.unit.data.originals import CORPUS_FILES, QUESTION_FILES

ALL = {**{f"q-{k}": v for k, v in QUESTION_FILES.items()}, **{f"c-{k}": v for k, v in CORPUS_FILES.items()}}
HOSTILE = ["<|eot_id|>", "[/INST]", "[7] > [2]", "\u202e\u200b", "\x00", "", " ", "x" * 10_000]
VALUES = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    [[]],
    {},
    [None],
    ["a", 1],
    {"a": {"b": []}},
    [{"a": 1}],
]


def read_or_refuse(path: Path) -> DataError | None:
    """Reads a file all the way; the refusal, if any, must be one short line naming the file."""
    try:
        source_format = recognise(path)
        if source_format.kind == "corpus":
            for passage in read_corpus(path):
                assert passage.id and (passage.text or passage.title)
        else:
            for question in read_questions(path):
                assert question.id and question.question.strip()
                assert all(answer.strip() for answer in question.answers)
    except DataError as error:
        message = str(error)
        assert "\n" not in message and message.startswith(str(path)) and len(message) < 700, message
        return error
    return None


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One mutation, structural (of a JSON value) or of bytes."""
    kind = rng.randrange(8)
    cut = rng.randrange(len(data))
    if kind == 0:
        return data[:cut]
    if kind == 1:
        return (
            data[:cut] + rng.choice([b"\x00", b"\xff", b"\xc3", b'"', b"{", b"]", b"\n", b"\\"]) + data[cut:]
        )
    if kind == 2:
        return data[:cut] + b"[" * 5_000 + data[cut:]
    if kind == 3:
        return data.decode().encode(rng.choice(["utf-16", "utf-32", "cp1252", "utf-8-sig"]), "replace")
    if kind == 4:
        return data + data
    if kind == 5:
        return data.replace(b"\n", b"")
    if data[:3] == b"id\t":
        return data.replace(b"\t", rng.choice([b"", b"\t\t", b'"\t']))
    records = json.loads(data) if data[:1] == b"[" else [json.loads(line) for line in data.splitlines()]
    target = rng.choice(records)
    field = rng.choice(list(target))
    inner = target[field]
    while isinstance(inner, (list, dict)) and inner and rng.random() < 0.6:
        target, field = inner, rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner = target[field]
    target[field] = rng.choice([*VALUES, *HOSTILE])
    return (
        json.dumps(records).encode()
        if data[:1] == b"["
        else b"".join(json.dumps(r).encode() + b"\n" for r in records)
    )


@pytest.mark.parametrize("name", ALL)
def test_mutated_files_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    path = tmp_path / "file"
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(ALL[name], rng))
        refused += read_or_refuse(path) is not None
    assert 5 < refused < 60


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"id": "a", "question": "\xff"}\n', r"file:1: is not UTF-8 \(byte 25"),
        (b'{"id": "a", "question": "q\x00"}\n', "file:1: holds a NUL byte"),
        ("{}".encode("utf-16"), "file:1: is UTF-16"),
        (b'{"id": ' + b"[" * 100_000, "file:1: is not valid JSON"),
        (
            b'{"question": "q", "answers": ["a"]}\n{"question": "r", "answers": [NaN]}\n',
            r"file:2: is not valid JSON: unexpected character, expected a JSON value \(column 31\)",
        ),
        (
            b'[{"question": "q", "answers": ["a"]},\n {"question": "r",\n  "answers": [NaN]}]',
            r"file:2: is not valid JSON: .* \(line 2 of the record, column 15\)",
        ),
        (b"[" * 100_000, "the JSON list ends early"),
        (b'[{"question": "q", "answer": ["a"]}, ', "the JSON list ends early"),
        (b'[{"question": "q", "answer": ["a"]}, "', "the JSON list ends early"),
        (b'[{"question": "q", "answer": ["a"]}] x', "text after the end of the JSON list"),
        (b'[{"question": "q", "answer": ["a"]},]', "empty element"),
        (b'{\n "question": "q",\n "answer": ["a"]\n', "file:1: is not valid JSON"),
        (gzip.compress(b'{"question": "q", "answer": ["a"]}\n' * 50, mtime=0)[:-12], "ends early|gzip"),
        (b"\x1f\x8b" + b"rubbish" * 5, "damaged gzip"),
        (
            zstandard.compress(b'{"question": "q", "answer": ["a"]}\n' * 50)[:-4],
            "zstandard stream ends early",
        ),
        (b"\x28\xb5\x2f\xfd" + b"rubbish" * 5, "damaged zstandard"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        list(read_questions(path))


def test_special_token_strings_and_ten_megabytes_pass_through(tmp_path: Path) -> None:
    texts = ["<|eot_id|>[/INST]<|im_start|>", "\u202eright to left\u200b", "word " * 2_000_000]
    path = tmp_path / "corpus"
    path.write_text("".join(json.dumps({"id": str(n), "text": t}) + "\n" for n, t in enumerate(texts)))
    assert [p.text for p in read_corpus(path)] == texts


def test_records_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(stream, "_CHUNK_BYTES", 300)
    record = b'{"question": "' + b"q" * 2000 + b'", "answer": ["a"]}'
    path = tmp_path / "file"
    for data in (record + b"\n", b'{"question": "q", "answer": ["a"]}\n' + record, b"[" + record + b"]"):
        path.write_bytes(data)
        with pytest.raises(DataError, match="record longer than"):
            list(read_questions(path))


@pytest.mark.slow
def test_memory_stays_flat_over_a_long_corpus(tmp_path: Path) -> None:
    path = tmp_path / "psgs.tsv"
    with path.open("w") as file:
        file.write("id\ttext\ttitle\n")
        for number in range(4_000):
            file.write(f"{number}\t{'some words of text ' * 190}\tTitle {number}\n")
    tracemalloc.start()
    assert sum(1 for _ in read_corpus(path)) == 4_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 14e6 and peak < 9e6


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "file", tmp_path / "out.jsonl"
    source.write_bytes(QUESTION_FILES["own"] + b'{"id": "z"')
    with pytest.raises(DataError, match="file:3"):
        convert(source, out)
    assert list(tmp_path.iterdir()) == [source]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        read_or_refuse(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    sorted(
        {"question", "id", "_id", "answers", "text", "title", "contents", "input", "gold", "idx", "ranking"}
        | {
            "output",
            "paragraphs",
            "context",
            "positive_ctxs",
            "ctxs",
            "golden_answers",
            "retrieval",
            "response",
        }
        | {"prompt", "answer", "passages", "candidates", "supporting_facts", "evidences", "metadata", "hops"}
        | {"queries", "question_decomposition", "fact", "relation", "type", "entity_ids", "title"}
    )
)


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(
    st.lists(
        st.dictionaries(FIELDS, JSON | st.lists(st.dictionaries(FIELDS, JSON, max_size=3), max_size=2)),
        max_size=3,
    )
)
def test_any_values_under_known_fields_are_read_or_refused(records: list[object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        read_or_refuse(path)
