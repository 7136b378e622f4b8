"""What cannot be used is refused with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from ragdro.data import load_questions, read_corpus
from ragdro.errors import DataError
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"[]", "holds no records"),
        (b"[1, 2]", "must hold a JSON object, holds a number"),
        (b'{"id": "a", "question": "q", "answers": []}\n', "question 'a' has no answers"),
        (b'{"id": "a", "question": "q", "answers": ["x"]}\n' * 2, "question id 'a' appears twice"),
        (b'{"id": "a", "question": " ", "answers": ["x"]}\n', "field 'question': is empty"),
        (b'{"id": "a", "question": "q", "answers": ["x", ""]}\n', r"field 'answers\[1\]': is empty"),
        (b'{"id": true, "question": "q", "answers": ["x"]}\n', "field 'id': must be a string"),
        (
            b'{"id": "a", "question": "q", "answers": ["x"], "passages": [{"title": "", "text": ""}]}\n',
            r"field 'passages\[0\].text': is empty",
        ),
        (
            b'{"id": "a", "question": "q", "answers": ["x"], "passages": [{"text": "t", "gold": "yes"}]}\n',
            r"field 'passages\[0\].gold': must be true or false",
        ),
        (
            b'{"id": "a", "question": "q", "candidates": [{"text": "t", "score": 1}, {"text": "u"}]}',
            "field 'candidates': has scores on some entries",
        ),
        (b'{"id": "a", "question": "q", "queries": "r"}', "field 'queries': must be a list, is a string"),
        (b'{"id": "a", "question": "q", "queries": ["r", " "]}', r"field 'queries\[1\]': is empty"),
        (
            o.jsonl({**o.MUSIQUE, "question_decomposition": [{"question": "a"}, {"question": "#1 b"}]}),
            r"field 'question_decomposition\[0\].answer': is missing",
        ),
        (
            o.jsonl({**o.TWOWIKI, "evidences": [["Arlen", "mayor", "Dell"], ["Dell", "born"]]}),
            r"field 'evidences\[1\]': must be three strings",
        ),
        (
            o.jsonl({**o.TWOWIKI, "evidences": {"fact": ["Arlen"], "relation": []}}),
            "field 'evidences': has columns of different lengths",
        ),
        (b'{"id": "a", "text": "t"}\n', "holds a corpus"),
        (b'{"colour": 1}\n', "file:1: is in no format that we read: JSON lines with fields colour"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_questions(put(tmp_path, data))
    assert str(caught.value).startswith(str(tmp_path)) and "\n" not in str(caught.value)


def test_a_corpus_without_passages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no passages"):
        list(read_corpus(put(tmp_path, b"id\ttext\ttitle\n")))
    with pytest.raises(DataError, match="holds questions"):
        read_corpus(put(tmp_path, o.jsonl(o.NQ_OPEN)))
    with pytest.raises(DataError, match="no such file"):
        read_corpus(tmp_path / "absent")
    with pytest.raises(DataError, match=r"file:2: has 2 columns, the header 3"):
        list(read_corpus(put(tmp_path, b"id\ttext\ttitle\n1\tonly\n")))
