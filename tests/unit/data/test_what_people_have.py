"""Files as people have them: SQuAD, tables, Parquet, Arrow, LangChain, LlamaIndex."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ragdro.data import load_questions, read_corpus, read_gold, read_questions, recognise
from ragdro.errors import DataError
from ragdro.types import Passage, Question
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put

SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Arlen",
            "paragraphs": [
                {
                    "context": "Mara Dell founded Arlen.",
                    "qas": [
                        {
                            "id": "s1",
                            "question": "Who founded Arlen?",
                            "answers": [
                                {"text": "Mara Dell", "answer_start": 0},
                                {"text": "Dell", "answer_start": 5},
                                {"text": "Mara Dell", "answer_start": 0},
                            ],
                            "is_impossible": False,
                        },
                        {
                            "id": "s2",
                            "question": "Who sold Arlen?",
                            "answers": [],
                            "plausible_answers": [{"text": "Mara Dell", "answer_start": 0}],
                            "is_impossible": True,
                        },
                    ],
                }
            ],
        }
    ],
}
FOUNDED = Question(
    "s1",
    "Who founded Arlen?",
    ("Mara Dell", "Dell"),
    (Passage("s1:0", "Arlen", "Mara Dell founded Arlen.", True),),
)
HUB_SQUAD = {
    "id": "s1",
    "title": "Arlen",
    "context": "Mara Dell founded Arlen.",
    "question": "Who founded Arlen?",
    "answers": {"text": ["Mara Dell", "Dell"], "answer_start": [0, 5]},
}


@pytest.mark.parametrize("indent", [None, 1])
def test_squad_and_what_becomes_of_the_unanswerable(
    tmp_path: Path, indent: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = put(tmp_path, json.dumps(SQUAD, indent=indent).encode())
    assert str(recognise(path)) == "squad (questions, json object)"
    first, second = read_questions(path)
    assert first == FOUNDED
    assert second.id == "s2" and not second.answers and not second.gold_passages and second.passages
    assert load_questions(path) == [FOUNDED]
    assert [question.id for _, question in read_gold(path)] == ["s1"]
    assert caplog.text.count("1 unanswerable questions left out") == 2
    assert list(read_questions(put(tmp_path, o.jsonl(HUB_SQUAD)))) == [FOUNDED]
    without: dict[str, Any] = {**HUB_SQUAD, "answers": {"text": [], "answer_start": []}}
    with pytest.raises(DataError, match="no question has an answer"):
        load_questions(put(tmp_path, o.jsonl(without)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["Mara Dell", "M. Dell"]', ("Mara Dell", "M. Dell")),
        ("['Mara Dell', \"M. O'Dell\"]", ("Mara Dell", "M. O'Dell")),
        ("[sic]", ("[sic]",)),
        ("[1, 2]", ("[1, 2]",)),
        ("[]", ("[]",)),
        ('["a", ""]', ('["a", ""]',)),
        ("[" * 5000 + "]" * 5000, ("[" * 5000 + "]" * 5000,)),
    ],
)
def test_a_list_in_a_string_is_a_list(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    popqa = {"id": 7, "subj": "Arlen", "prop": "founder", "question": "Who?", "possible_answers": text}
    for record in (popqa, {"id": "7", "question": "Who?", "answers": text}):
        (question,) = read_questions(put(tmp_path, o.jsonl(record)))
        assert question == Question("7", "Who?", expected)


@pytest.mark.parametrize(
    "record",
    [
        {"query": "Who?", "response": "Dell"},
        {"question": "Who?", "response": "Dell"},
        {"query": "Who?", "answers": ["Dell"]},
        {"question": "Who?", "ground_truth": "Dell", "contexts": ["x"]},
    ],
)
def test_questions_by_common_names(tmp_path: Path, record: dict[str, Any]) -> None:
    assert list(read_questions(put(tmp_path, o.jsonl(record)))) == [Question("question-0", "Who?", ("Dell",))]


def test_llama_index_data_sets_and_document_stores(tmp_path: Path) -> None:
    examples = {
        "examples": [{"query": "Who?", "reference_contexts": ["A."], "reference_answer": "Dell"}],
        "class_name": "LabelledRagDataset",
    }
    assert list(read_questions(put(tmp_path, json.dumps(examples).encode()))) == [
        Question("question-0", "Who?", ("Dell",))
    ]
    store = {
        "docstore/metadata": {"n1": {"doc_hash": "x"}},
        "docstore/data": {
            "n1": {"__data__": {"id_": "n1", "text": "A hill.", "metadata": {}}, "__type__": "1"},
            "n2": {
                "__data__": {"id_": "n2", "text": "A city.", "metadata": {"title": "Arlen"}},
                "__type__": "1",
            },
        },
    }
    path = put(tmp_path, json.dumps(store, indent=2).encode())
    assert list(read_corpus(path)) == [Passage("n1", "", "A hill."), Passage("n2", "Arlen", "A city.")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"page_content": "A hill.", "metadata": {"source": "a.pdf"}}, Passage("passage-0", "", "A hill.")),
        (
            {"id": "7", "page_content": "A hill.", "metadata": {"title": "Oster"}, "type": "Document"},
            Passage("7", "Oster", "A hill."),
        ),
        (
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "schema", "document", "Document"],
                "kwargs": {"page_content": "A hill.", "metadata": {"title": "Oster"}},
            },
            Passage("passage-0", "Oster", "A hill."),
        ),
        ({"id_": "n1", "text": "A hill.", "metadata": {}}, Passage("n1", "", "A hill.")),
        ({"id_": "n1", "text_resource": {"text": "A hill."}, "metadata": {}}, Passage("n1", "", "A hill.")),
        ({"text": "A hill."}, Passage("passage-0", "", "A hill.")),
        ({"content": "A hill.", "doc_id": 5}, Passage("5", "", "A hill.")),
        ({"docid": "d", "title": "Oster", "body": "A hill."}, Passage("d", "Oster", "A hill.")),
        ({"id": "3", "contents": "Oster\nA hill.", "title": "Oster"}, Passage("3", "Oster", "A hill.")),
        (
            {"id": "3", "contents": "A hill.\nA tree.", "title": "Oster"},
            Passage("3", "Oster", "A hill.\nA tree."),
        ),
        ({"id": "3", "contents": '"Oster"\nA hill.'}, Passage("3", "Oster", "A hill.")),
    ],
)
def test_passages_by_common_names(tmp_path: Path, record: dict[str, Any], expected: Passage) -> None:
    assert list(read_corpus(put(tmp_path, o.jsonl(record)))) == [expected]


QUESTIONS_CSV = (
    'id,question,answers\r\n1,"Who, then,\n\nfounded Arlen?","[""Mara Dell"", ""Dell""]"\r\n'
    "2,What is Oster?,a hill\r\n"
)
READ = [
    Question("1", "Who, then,\n\nfounded Arlen?", ("Mara Dell", "Dell")),
    Question("2", "What is Oster?", ("a hill",)),
]


def test_csv_with_line_breaks_and_lists(tmp_path: Path) -> None:
    path = put(tmp_path, b"\xef\xbb\xbf" + QUESTIONS_CSV.encode())
    assert str(recognise(path)) == "own (questions, csv)"
    assert list(read_questions(path)) == READ
    semicolons = put(tmp_path, b"doc_id;title;text\n7;Oster;A hill, green.\n")
    assert list(read_corpus(semicolons)) == [Passage("7", "Oster", "A hill, green.")]


def test_tsv_with_and_without_header(tmp_path: Path) -> None:
    path = put(tmp_path, b'query\tresponse\nWho is "Dell"?\t"Mara ""M."" Dell"\n')
    assert list(read_questions(path)) == [Question("question-0", 'Who is "Dell"?', ('Mara "M." Dell',))]
    headless = put(tmp_path, b"who founded arlen\t['Mara Dell', \"M. Dell\"]\nwhat is oster\t['a hill']\n")
    assert [(q.question, q.answers) for q in read_questions(headless)] == [
        ("who founded arlen", ("Mara Dell", "M. Dell")),
        ("what is oster", ("a hill",)),
    ]


def test_a_row_of_another_length_is_a_bad_record(tmp_path: Path) -> None:
    path = put(tmp_path, b"question,answer\nq,a\nq,a,b\nr,b\n", "file.csv")
    with pytest.raises(DataError, match=r"file.csv:3: has 3 columns, the header 2"):
        list(read_questions(path))
    reading = read_questions(path, skip_bad=1)
    assert [q.question for q in reading] == ["q", "r"] and [e.line for e in reading.skipped] == [3]
    before = csv.field_size_limit(131_072)  # whatever others have set: a record's own limit counts
    try:
        (long,) = read_questions(put(tmp_path, b"question,answer\n" + b"q" * 200_000 + b",a\n"))
        assert len(long.question) == 200_000
    finally:
        csv.field_size_limit(before)


def test_wrong_quotation_marks_in_csv_swallow_no_rows(tmp_path: Path) -> None:
    path = put(tmp_path, b'question,answer\nq,a\n"He" did,b\nr,c\n', "file.csv")
    with pytest.raises(DataError, match=r'file.csv:3: is no whole CSV row: after the " that ends a field'):
        list(read_questions(path))
    reading = read_questions(path, skip_bad=1)
    assert [q.question for q in reading] == ["q", "r"] and [e.line for e in reading.skipped] == [3]
    for rest in (b"r,c\n", b'r,c\n"s",d\n'):  # never closed, and closed by the mark of a later row
        path = put(tmp_path, b'\nquestion,answer\nq,a\n"half,b\n' + rest, "file.csv")
        with pytest.raises(DataError, match=r"file.csv:4: is no whole CSV row"):
            list(read_questions(path, skip_bad=9))


ROWS = [
    {"id": "1", "question": "Who?", "answers": ["Dell"]},
    {"id": "2", "question": "What?", "answers": ["hill"]},
]
FROM_ROWS = [Question("1", "Who?", ("Dell",)), Question("2", "What?", ("hill",))]


def test_parquet_and_arrow(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for name, container in (("a.parquet", "parquet"), ("a.arrow", "arrow")):
        assert str(recognise(tmp_path / name)) == f"own (questions, {container})"
        assert list(read_questions(tmp_path / name)) == FROM_ROWS
    damaged = put(tmp_path, (tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match="file: cannot be read: "):
        read_questions(damaged)


def test_a_saved_dataset_and_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list([*ROWS, {"id": "3", "question": "-", "answers": ["-"]}])
    made.filter(lambda row: row["id"] != "3").save_to_disk(tmp_path / "one")
    assert str(recognise(tmp_path / "one")) == "own (questions, saved dataset)"
    assert list(read_questions(tmp_path / "one")) == FROM_ROWS
    datasets.DatasetDict({"train": made, "test": made}).save_to_disk(tmp_path / "two")
    with pytest.raises(DataError, match=rf"splits test, train: name one, .* {tmp_path}/two/train"):
        read_questions(tmp_path / "two")
    assert len(list(read_questions(tmp_path / "two" / "train"))) == 3


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs the package `pyarrow`: pip install 'ragdro\[arrow\]'"):
        read_questions(put(tmp_path, b"PAR1rubbish"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7", "is a PDF; make a corpus of it: ragdro ingest .*/file --out"),
        (b"PK\x03\x04rest", "is a damaged zip archive; get the file again"),
        (b"SQLite format 3\x00", "is an SQLite database"),
    ],
)
def test_a_foreign_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_questions(put(tmp_path, data))


def test_a_folder_that_is_neither_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a BEIR folder .* nor a saved dataset"):
        read_corpus(tmp_path)
    put(tmp_path, b"PAR1", "train-0.parquet")
    with pytest.raises(DataError, match=rf"a folder of Parquet files: name a split, as hf:{tmp_path}:train"):
        read_corpus(tmp_path)


def test_a_line_with_a_list_is_a_record_and_an_object_over_lines_may_be_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JSON lines with fields turns, x y") as caught:
        read_questions(put(tmp_path, json.dumps({"turns": [{"a": 1}], "x\ny": 2}).encode()))
    assert "\n" not in str(caught.value)
    record = {"question": "Who?", "answer": ["Dell"]}
    assert [q.answers for q in read_questions(put(tmp_path, json.dumps(record, indent=1).encode()))] == [
        ("Dell",)
    ]
