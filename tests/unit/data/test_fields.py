"""`fields`: the user's names for ours, in readers, commands and configs."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ragdro.cli.data import data_app
from ragdro.config import DataSettings
from ragdro.data import load_questions, read_corpus, read_questions
from ragdro.data.convert import convert
from ragdro.data.guess import guess
from ragdro.data.inspect import inspect
from ragdro.errors import ConfigError, DataError
from ragdro.types import Passage, Question
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put
from tests.unit.ingest import files


def test_names_of_one_s_own(tmp_path: Path) -> None:
    fields = {"question": "meta.q", "answers": "gold", "id": "nr", "text": "body", "passages": "docs"}
    record = {
        "nr": 4,
        "meta": {"q": "Who?"},
        "gold": "Dell",
        "docs": ["A hill.", {"title": "T", "text": "B."}],
    }
    path = put(tmp_path, o.jsonl(record))
    expected = Question("4", "Who?", ("Dell",), (Passage("4:p0", "", "A hill."), Passage("4:p1", "T", "B.")))
    assert list(read_questions(path, fields=fields)) == load_questions(path, fields=fields) == [expected]
    corpus = put(tmp_path, b"body,extra\nA hill.,1\n", "corpus")
    assert list(read_corpus(corpus, fields=fields)) == [Passage("passage-0", "", "A hill.")]
    assert inspect(path, fields=fields).records == 1
    assert convert(path, tmp_path / "out.jsonl", fields=fields).records == 1
    assert list(read_questions(tmp_path / "out.jsonl")) == [expected]
    missing = put(tmp_path, o.jsonl(record, {"meta": {}}))
    with pytest.raises(DataError, match=r"file:2: field 'meta.q': is missing"):
        list(read_questions(missing, fields=fields))
    with pytest.raises(DataError, match=r"data.fields: no field 'colour' of ours; there are id, question"):
        read_questions(path, fields={"colour": "x"})


def test_a_refused_file_says_the_command_that_reads_it(tmp_path: Path) -> None:
    passage = "A hill on the fells. " * 8
    for name, held, expected in (
        ("my fragen.csv", "Frage;Antwort\nWer?;Dell\n", [Question("question-0", "Wer?", ("Dell",))]),
        ("x.csv", "col1,col2\nWho is it?,Dell\n", [Question("question-0", "Who is it?", ("Dell",))]),
        ("deep.jsonl", '{"d": {"userQuestion": "who", "goldAnswer": "x", "qid": "7"}}', None),
        ("parts.tsv", f"nr\theadline\tartikel\n4\tFells\t{passage}\n", [Passage("4", "Fells", passage)]),
        ("bodies.jsonl", f'{{"zzz": "{passage}", "lang": "en"}}', [Passage("passage-0", "", passage)]),
    ):
        path = put(tmp_path, held.encode(), name)
        with pytest.raises(DataError) as caught:
            read_questions(path)
        command = shlex.split(str(caught.value).split("`")[1])
        assert command[:3] == ["ragdro", "data", "convert"] and command[3] == str(path)
        assert CliRunner().invoke(data_app, command[2:]).exit_code == 0
        made: list[Question] | list[Passage]
        made = list((read_corpus if "text=" in command[-1] else read_questions)(command[5]))
        assert made == (expected or [Question("question-0", "who", ("x",))])


@pytest.mark.parametrize(
    ("name", "held", "read"),
    [
        ("x.csv", "x,y\n1,2\n", Question("question-0", "1", ("2",))),
        ("x y.tsv", "kind\tstate\tnr\nred\tnew\t4\n", Question("question-0", "red", ("new",))),
        ("x.csv", '"a, b",z\nsomeone,n\n', Question("question-0", "someone", ("n",))),
        ("x.jsonl", '{"n": 3, "p": {"k": "red"}, "s": "new"}', Question("question-0", "red", ("new",))),
        ("x.jsonl", '{"n": 3, "k": "red"}', Passage("passage-0", "", "red")),
    ],
)
def test_where_nothing_says_which_is_which_the_order_does(
    tmp_path: Path, name: str, held: str, read: Question | Passage
) -> None:
    path = put(tmp_path, held.encode(), name)
    with pytest.raises(DataError, match=r"; if not, name other (columns|fields) in it") as caught:
        read_questions(path)
    command = shlex.split(str(caught.value).split("`")[1])
    done = CliRunner().invoke(data_app, command[2:])
    assert done.exit_code == 0, done.exception
    assert list((read_questions if isinstance(read, Question) else read_corpus)(command[5])) == [read]


def test_a_file_that_has_to_be_a_corpus_is_read_as_one(tmp_path: Path) -> None:
    path = put(tmp_path, b"q,z,nr\nWho?,somebody else,3\n", "x.csv")
    with pytest.raises(DataError, match="If z is the text: `") as caught:
        read_corpus(path)
    command = shlex.split(str(caught.value).split("`")[1])
    assert CliRunner().invoke(data_app, command[2:]).exit_code == 0
    assert list(read_corpus(command[5])) == [Passage("passage-0", "", "somebody else")]


@pytest.mark.parametrize("held", ['{"a": 1, "b": {"c": true}}', f'{{"{"n" * 99}": "long"}}'])
def test_a_file_without_a_text_that_can_be_named_has_no_command(tmp_path: Path, held: str) -> None:
    with pytest.raises(DataError, match="None of these fields holds a text; name a file") as caught:
        read_questions(put(tmp_path, held.encode(), "x.jsonl"))
    assert "`" not in str(caught.value)


def test_documents_are_named_with_the_command_that_takes_them(tmp_path: Path) -> None:
    def said(name: str, held: bytes | None = None) -> str:
        path = tmp_path / name if held is None else put(tmp_path, held, name)
        with pytest.raises(DataError) as caught:
            read_corpus(path)
        return str(caught.value).replace(f"{tmp_path}/", "")

    files.word(tmp_path / "a.docx")
    files.slides(tmp_path / "a b.pptx")
    for name, folder in (("a.xlsx", "xl/workbook.xml"), ("a.zip", "notes.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(folder, "x")
    ingest = "make a corpus of it: ragdro ingest {} --out corpus.jsonl"
    assert said("a.docx") == f"a.docx: is a Word document; {ingest.format('a.docx')}"
    assert said("a b.pptx").endswith(
        f"is a PowerPoint document; {ingest.format(chr(39) + 'a b.pptx' + chr(39))}"
    )
    assert said("a.xlsx").endswith(
        "write its first sheet as CSV: libreoffice --headless --convert-to csv a.xlsx"
    )
    assert said("a.zip").endswith("is a zip archive; unpack it: unzip a.zip")
    assert said("b.zip", b"PK\x03\x04xx").endswith("is a damaged zip archive; get the file again")
    assert said("a.txt", b"Some words.\n").endswith(f"; if it is a document, {ingest.format('a.txt')}")
    assert said("a.pdf", b"%PDF-1.4").endswith(f"is a PDF; {ingest.format('a.pdf')}")


def test_a_name_with_another_field_s_word_is_not_it() -> None:
    records = [{"question_id": "4", "question_text": "who", "answer_count": 2, "reply": "Dell"}]
    assert guess(records) == {"question": "question_text", "answers": "reply", "id": "question_id"}


def test_the_commands_take_them(tmp_path: Path) -> None:
    path = put(tmp_path, b"frage,antwort\nWer?,Dell\n", "fragen.csv")
    with pytest.raises(DataError, match=r"a CSV with columns frage, antwort\. If frage is the question and"):
        read_questions(path)
    out = tmp_path / "out.jsonl"
    names = ["--fields", "question=frage, answers=antwort"]
    run = CliRunner().invoke
    assert run(data_app, ["convert", str(path), "--out", str(out), *names]).exit_code == 0
    assert list(read_questions(out)) == [Question("question-0", "Wer?", ("Dell",))]
    assert "1 record\n" in run(data_app, ["inspect", str(path), *names]).output
    failed = run(data_app, ["inspect", str(path), "--fields", "question"])
    assert isinstance(failed.exception, ConfigError) and "not of the form ours=theirs" in str(
        failed.exception
    )


def test_field_names_of_a_config_are_checked() -> None:
    assert DataSettings(train="a", validation="b", fields={"question": "q"}).fields == {"question": "q"}
    with pytest.raises(ValueError, match="colour"):
        DataSettings.model_validate({"train": "a", "validation": "b", "fields": {"colour": "q"}})
