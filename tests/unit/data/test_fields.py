"""`fields`: the user's names for ours, in readers, commands and configs."""

from __future__ import annotations

import shlex
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
    for name, held, wanted in (
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
        assert made == (wanted or [Question("question-0", "who", ("x",))])


@pytest.mark.parametrize(
    "held",
    [
        "x,y\n1,2\n",
        "a b,q,\n",
        f"question{'n' * 99},z\nWho?,n\n",
        '"a,b",z\nWho?,n\n',
        "kind,state\nred,new\n",
    ],
)
def test_what_cannot_be_guessed_is_no_guess(tmp_path: Path, held: str) -> None:
    path = put(tmp_path, held.encode(), "x.csv")
    with pytest.raises(DataError) as caught:
        read_questions(path)
    assert "`" not in str(caught.value)


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
