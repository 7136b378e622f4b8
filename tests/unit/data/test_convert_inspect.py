"""Conversion to our own JSONL loses nothing; inspection counts what was put in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli.data import data_app
from ragdro.data import read_corpus, read_questions, recognise
from ragdro.data.convert import convert
from ragdro.data.inspect import inspect
from ragdro.errors import DataError, ModelError
from tests.conftest import word_level
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put


@pytest.mark.parametrize("name", o.QUESTION_FILES)
def test_converted_questions_read_back_equal(tmp_path: Path, name: str) -> None:
    source = put(tmp_path, o.QUESTION_FILES[name])
    for suffix in ("jsonl", "jsonl.gz", "jsonl.zst"):
        out = tmp_path / f"out.{suffix}"
        done = convert(source, out)
        expected = list(read_questions(source))
        assert done.records == len(expected) and recognise(out).name == "own"
        assert list(read_questions(out)) == expected


@pytest.mark.parametrize("name", o.CORPUS_FILES)
def test_converted_corpora_read_back_equal(tmp_path: Path, name: str) -> None:
    source, out = put(tmp_path, o.CORPUS_FILES[name]), tmp_path / "out"
    convert(source, out)
    assert list(read_corpus(out)) == list(read_corpus(source))


def test_passages_of_questions_make_a_corpus_without_repeats(tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl.gz"
    done = convert(put(tmp_path, o.QUESTION_FILES["own"]), out, as_corpus=True)
    assert (
        done.records == 2
        and out.read_bytes()[:2] == b"\x1f\x8b"
        and gzip.decompress(out.read_bytes()).count(b"\n") == 2
    )
    assert [p.content for p in read_corpus(out)] == [
        ("Arlen", "Arlen lies on the Visk."),
        ("Oster", "Oster is a hill."),
    ]
    with pytest.raises(DataError, match="has no passages"):
        convert(put(tmp_path, o.QUESTION_FILES["nq-open"]), tmp_path / "none", as_corpus=True)
    assert not (tmp_path / "none").exists()


def test_ids_that_are_a_questions_own_are_told_apart_in_a_corpus(tmp_path: Path) -> None:
    texts = {"a": ["one", "two", "three"], "b": ["four", "two", "five"]}
    passages = {q: [{"id": n, "text": text} for n, text in enumerate(said)] for q, said in texts.items()}
    passages["b"].append({"id": 0, "text": "six"})
    records = [{"id": q, "question": q, "answers": ["x"], "passages": given} for q, given in passages.items()]
    convert(put(tmp_path, o.jsonl(*records)), tmp_path / "corpus.jsonl", as_corpus=True)
    corpus = {passage.id: passage.text for passage in read_corpus(tmp_path / "corpus.jsonl")}
    assert corpus == {"0": "one", "1": "two", "2": "three", "b:0": "four", "b:2": "five", "b:0'": "six"}


def test_inspection_counts(tmp_path: Path) -> None:
    base = {"question": "One two  three?", "answers": ["Visk , River"]}
    held = [{"title": "Arlen", "text": "It lies on the visk-river."}]
    source = put(
        tmp_path,
        o.jsonl(
            {"id": "1", **base, "passages": held},
            {"id": "2", **base, "passages": [{"title": "Oster", "text": "A hill.", "gold": True}]},
            {"id": "3", "question": "four", "answers": ["a b c", "d"]},
            {"id": "3", "question": "five", "answers": []},
        ),
    )
    other = put(tmp_path, o.jsonl({"id": "9", "question": "ONE two three?", "answers": ["d"]}), "other")
    inspection = inspect(source, against=other)
    assert (inspection.records, inspection.without_answers, inspection.with_gold) == (4, 1, 1)
    assert (inspection.with_passages, inspection.answer_in_passages) == (2, 1)
    assert {name: (t.count, t.repeats) for name, t in inspection.fields.items()} == {
        "question ids": (4, 1),
        "questions": (4, 1),
        "answers": (4, 1),
        "passages": (2, 0),
    }
    assert inspection.fields["questions"].quantiles() == {"mean": 2.0, "median": 2.0, "p95": 3.0, "max": 3}
    assert inspection.overlaps == {"question ids": 0, "questions": 1, "answers": 1}
    assert inspection.as_lines()[2:4] == [
        "  question ids: 4 (1 repeat)",
        "  questions: 4 (1 repeat); words: mean 2, median 2, p95 3, max 3",
    ]
    by_letters = inspect(source, count_tokens=len)
    assert by_letters.fields["answers"].quantiles()["max"] == 12


@pytest.mark.parametrize(
    ("answer", "text", "words"),
    [("北京", "北京是首都", 5), ("東京", "北京是首都", 5), ("Köln", "In Ko\u0308ln", 2)],
)
def test_answers_and_words_of_other_scripts(tmp_path: Path, answer: str, text: str, words: int) -> None:
    record = {"question": "q", "answers": [answer], "passages": [{"title": "", "text": text}]}
    inspection = inspect(put(tmp_path, o.jsonl(record)))
    assert inspection.answer_in_passages == (answer != "東京")
    assert inspection.fields["passages"].quantiles()["max"] == words


def test_inspection_of_a_folder_and_of_bad_records(tmp_path: Path) -> None:
    for name, data in o.BEIR.items():
        put(tmp_path, data, f"beir/{name}")
    inspection = inspect(tmp_path / "beir")
    assert inspection.records == 1 and inspection.fields["passage ids"].count == 3
    bad = inspect(put(tmp_path, b"broken\n" + o.jsonl(o.NQ_OPEN)), skip_bad=1)
    assert bad.records == 1 and len(bad.skipped) == 1 and ":1:" in bad.skipped[0]


def test_lengths_in_a_models_tokens(tmp_path: Path) -> None:
    word_level().save_pretrained(tmp_path / "model")
    source = put(tmp_path, o.jsonl({"id": "1", "question": "[7] > [2]?", "answers": ["x"]}))
    command = ["inspect", str(source), "--json"]
    counted = [
        json.loads(CliRunner().invoke(data_app, [*command, *more]).output)["fields"]["questions"][unit]
        for unit, more in (("words", []), ("tokens", ["--tokenizer", str(tmp_path / "model")]))
    ]
    assert [lengths["max"] for lengths in counted] == [3, 10]
    missing = CliRunner().invoke(data_app, [*command, "--tokenizer", str(tmp_path / "none")])
    assert isinstance(missing.exception, ModelError)


def test_the_commands(tmp_path: Path) -> None:
    source, out = put(tmp_path, o.QUESTION_FILES["hotpotqa"]), tmp_path / "new/out.jsonl"
    run = CliRunner().invoke
    converted = run(data_app, ["convert", str(source), "--out", str(out)])
    assert converted.exit_code == 0
    assert "1 record; format: hotpotqa (questions, json list)" in converted.output
    shown = run(data_app, ["inspect", str(out), "--against", str(source), "--json"])
    assert shown.exit_code == 0 and '"format": "own (questions, jsonl)"' in shown.output
    assert '"questions": 1' in shown.output
    failed = run(data_app, ["inspect", str(tmp_path / "absent")])
    assert isinstance(failed.exception, DataError)
    assert next(read_questions(out)) == next(read_questions(source))
