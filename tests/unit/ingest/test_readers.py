"""What each reader makes of a file, good or bad."""

from __future__ import annotations

import codecs
import os
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from ragdro.ingest.document import Document, ReadOptions, Remarks, UnreadableError
from ragdro.ingest.formats import format_of, read_documents
from tests.unit.ingest import files


def read(path: Path, **options: object) -> tuple[list[Document], Remarks]:
    file_format, remarks = format_of(path), Remarks()
    assert file_format is not None
    return list(read_documents(path, file_format, ReadOptions(**options), remarks)), remarks  # type: ignore[arg-type]


def text_of(path: Path, content: bytes, **options: object) -> str:
    path.write_bytes(content)
    (document,), _ = read(path, **options)
    return document.text


WORDS = "Die Straße führt über die Brücke nach Süden."


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (WORDS.encode(), WORDS),
        (codecs.BOM_UTF8 + WORDS.encode(), WORDS),
        (WORDS.encode("utf-16"), WORDS),
        (codecs.BOM_UTF16_BE + WORDS.encode("utf-16-be"), WORDS),
        (WORDS.encode("utf-32"), WORDS),
        (WORDS.encode("utf-16-le"), WORDS),
        (WORDS.encode("utf-16-be"), WORDS),
        (WORDS.encode("latin-1"), WORDS),
        ("Où est l'hôtel ? À côté de la gare.".encode("cp1252"), "Où est l'hôtel ? À côté de la gare."),
        ("café".encode("latin-1"), "café"),
        ("Привет, как дела? Всё хорошо.".encode("cp1251"), "Привет, как дела? Всё хорошо."),
        ("これは日本語のテキストです。".encode("shift_jis"), "これは日本語のテキストです。"),
        (b"one\r\ntwo\rthree\x0cfour", "one\ntwo\nthree\x0cfour"),
    ],
)
def test_encodings(content: bytes, text: str, tmp_path: Path) -> None:
    assert text_of(tmp_path / "a.txt", content) == text


def test_single_damaged_bytes_leave_utf8_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(WORDS.encode() * 4 + b"\xff" + WORDS.encode())
    (document,), remarks = read(tmp_path / "a.txt")
    assert document.text == WORDS * 4 + "\ufffd" + WORDS
    assert remarks.notes == ["some bytes are not UTF-8: read as \ufffd"]


def test_lines_of_two_encodings_are_read_as_what_they_are(tmp_path: Path) -> None:
    """An Á of UTF-8 has a byte that cp1252 lacks. É» of cp1252 would be valid UTF-8, but not with its «."""
    old = [
        "Die Straße führt nach Süden.",
        "Er sagte: «CAFÉ».",
        "Ein schöner Tag, sagte sie.",
    ]
    new = ["Ágnes kam später.", "Naïve – oder nicht?"]
    text = "\n".join([old[0], "ohne", new[0], *old[1:], new[1], ""])
    encoded = [(line + "\n").encode("utf-8" if line in new else "cp1252") for line in text.splitlines()]
    (tmp_path / "a.txt").write_bytes(b"".join(encoded))
    (document,), remarks = read(tmp_path / "a.txt")
    assert document.text == text
    assert remarks.notes == ["not all UTF-8: 3 lines read as cp1252, 2 lines as UTF-8"]
    (tmp_path / "a.csv").write_bytes(
        b"text\r\n" + b"".join(b'"' + line.strip() + b'"\r\n' for line in encoded)
    )
    rows, remarks = read(tmp_path / "a.csv")
    assert [row.text for row in rows] == text.splitlines()
    assert remarks.notes == ["not all UTF-8: 3 lines read as cp1252, 2 lines as UTF-8"]
    assert read(tmp_path / "a.txt", encoding="latin-1")[0][0].text == (tmp_path / "a.txt").read_text(
        "latin-1"
    )


def test_lines_of_two_encodings_are_counted_to_the_end_of_a_long_table(tmp_path: Path) -> None:
    """What is UTF-8 may stand behind what the encoding is guessed from."""
    old, new, count = "Die Straße führt nach Süden.", "Naïve – oder nicht?", 12_000
    lines = [old.encode("cp1252") + b"\r\n"] * count + [new.encode() + b"\r\n"] * 3
    assert len(b"".join(lines[:count])) > 2**18
    (tmp_path / "a.csv").write_bytes(b"text\r\n" + b"".join(lines))
    rows, remarks = read(tmp_path / "a.csv")
    assert [row.text for row in rows] == [old] * count + [new] * 3
    assert remarks.notes == ["not all UTF-8: 12,000 lines read as cp1252, 3 lines as UTF-8"]


def test_a_guess_is_noted_and_can_be_overruled(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(WORDS.encode("latin-1"))
    assert read(tmp_path / "a.txt")[1].notes == ["not UTF-8: read as cp1252"]
    said, remarks = read(tmp_path / "a.txt", encoding="cp437")
    assert said[0].text == WORDS.encode("latin-1").decode("cp437")
    assert remarks.notes == []
    (tmp_path / "a.txt").write_bytes(WORDS.encode())
    assert read(tmp_path / "a.txt", encoding="cp437")[0][0].text == WORDS


HTML = """<html><head><title>A &amp; B</title><style>.s{}</style><script>var s;</script></head><body>
<nav>Menu</nav><header><h1>Big<a class="headerlink" href="#x">¶</a></h1></header>
<p>Some <b>bold</b>
 text.<br>next</p><ul><li>one</li><li><p>two</p></li></ul>after
<table><tr><th>a</th><td>b</td></tr><tr><td>c</td></tr></table><pre>  x = 1
    y</pre><h2>More<span><a href="#m">#</a></span></h2>tail<script>bad()</script>
<noscript>no</noscript><div hidden>hid</div>
<div role="search">find</div><footer>foot</footer></body></html>"""


def test_html(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(HTML)
    (document,), _ = read(path)
    assert document.text == (
        "Big\n\nSome bold text.\nnext\n\n- one\n- two\n\nafter\n\n"
        "a | b\nc\n\n  x = 1\n    y\n\nMore\n\ntail\n\n"
    )
    assert document.title == "A & B"
    assert [(h.level, document.text[h.start : h.end]) for h in document.headings] == [(1, "Big"), (2, "More")]


def test_html_main_and_title(tmp_path: Path) -> None:
    path = tmp_path / "a.htm"
    path.write_text("<body>around<main><h1>Head</h1><p>main</p></main>around</body>")
    (document,), _ = read(path)
    assert (document.title, document.text) == ("Head", "Head\n\nmain\n\n")
    path.write_text("<body>only<main></main></body>")
    assert read(path)[0][0].text == "only\n\n"


def test_html_names_its_encoding_and_nests_deeply(tmp_path: Path) -> None:
    content = '<meta charset="iso-8859-2"><p>Příliš žluťoučký'.encode("iso-8859-2")
    assert text_of(tmp_path / "a.html", content) == "Příliš žluťoučký\n\n"
    assert text_of(tmp_path / "b.html", b"<div>" * 20000 + b"deep") == "deep\n\n"


def test_pdf(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(files.pdf(["First page.", "", "Third page."], "Report"))
    (document,), remarks = read(path)
    assert (document.title, document.text) == ("Report", "First page.\nThird page.\n")
    assert (document.numbering, document.breaks) == ("page", (0, 12, 12))
    assert remarks.notes == ["pages without text (scanned, or blank): 2"]
    path.write_bytes(files.encrypted(files.pdf(["Open."]), ""))
    assert read(path)[0][0].text == "Open.\n"


def test_docx(tmp_path: Path) -> None:
    files.word(tmp_path / "a.docx")
    (document,), _ = read(tmp_path / "a.docx")
    assert document.title == "The plan"
    words = (
        "Goals controlled Grow slowly. Money cell00 cell01 cell10 cell20 | cell11 nested cell21 "
        "boxed: inside kept"
    )
    assert " ".join(document.text.split()) == words
    assert [(h.level, h.title) for h in document.headings] == [(1, "Goals"), (2, "Money")]


def test_pptx(tmp_path: Path) -> None:
    files.slides(tmp_path / "a.pptx")
    (document,), _ = read(tmp_path / "a.pptx")
    starts = [*document.breaks, len(document.text)]
    assert [document.text[a:b].split() for a, b in pairwise(starts)] == [
        ["Topic", "1", "point", "1", "spoken"],
        ["Topic", "2", "point", "2"],
        ["left", "|", "right", "grouped"],
    ]
    assert [h.title for h in document.headings] == ["Topic 1", "Topic 2", "Slide 3"]


def rows(documents: list[Document]) -> list[tuple[int | None, str, str]]:
    return [(document.row, document.title, document.text) for document in documents]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id;Title;Body\n1;One;"a; ""b""\nc"\n2;Two;\n3;x;y;z\n4;Four;d\n')
    documents, remarks = read(path)
    assert rows(documents) == [(1, "One", 'a; "b"\nc'), (4, "Four", "d")]
    assert remarks.problems == ["row 3 has 4 cells, the first line names 3"]
    assert remarks.notes == ["rows without text: 1"]
    documents, _ = read(path, text_fields=("Title", "id"), title_field="id")
    assert rows(documents)[0] == (1, "1", "One\n\n1")
    path.write_bytes("text\tn\nGröße\t1\n".encode("utf-16"))
    assert rows(read(path)[0]) == [(1, "", "Größe")]
    (tmp_path / "b.tsv").write_text("title\ttext\na,b,c\td\n")
    assert rows(read(tmp_path / "b.tsv")[0]) == [(1, "a,b,c", "d")]


def test_wrong_quotation_marks_swallow_no_rows(tmp_path: Path) -> None:
    """In TSV they are text but around a whole field, as in data files; in CSV they are a fault."""
    (tmp_path / "a.tsv").write_text('title\ttext\n"a"\t"b" c\nd\t"e ""f"""\ng\t"h\ni\tj\nk\n')
    documents, remarks = read(tmp_path / "a.tsv")
    assert rows(documents) == [(1, "a", '"b" c'), (2, "d", 'e "f"'), (3, "g", '"h'), (4, "i", "j")]
    assert remarks.problems == ["row 5 has 1 cell, the first line names 2"]
    (tmp_path / "b.csv").write_text('title,text\na,"b" c\nd,e\n')
    documents, remarks = read(tmp_path / "b.csv")
    assert rows(documents) == [(2, "d", "e")]
    assert remarks.problems == [
        'row 1: after the " that ends a field there is more of it; a " inside of a field is written ""'
    ]
    (tmp_path / "c.csv").write_text('title,text\na,b\nc,"d\ne,f\n')
    with pytest.raises(UnreadableError, match='row 2, lines 3 to 4: a field begins with " and no " ends it'):
        read(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text('title,"text\na,b\n')
    with pytest.raises(UnreadableError, match='line 1: a field begins with " and no " ends it'):
        read(tmp_path / "d.csv")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"content": ["one", None], "headline": ["h", "i"], "n": [1, 2]}), path)
    documents, remarks = read(path)
    assert rows(documents) == [(1, "h", "one")]
    assert remarks.notes == ["rows without text: 1"]
    assert rows(read(path, text_fields=("n",))[0]) == [(1, "h", "1"), (2, "i", "2")]


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{bad\n\n{"title": "t", "text": "two"}\n[1]\n{"text": ["x"]}\n')
    documents, remarks = read(path)
    assert rows(documents) == [(1, "", "one"), (4, "t", "two")]  # not the first object alone has columns
    assert remarks.problems == [
        "line 2 is not JSON: unexpected character, expected a string key (column 2)",
        "line 5 holds no object",
        "row 6: column 'text' holds no text",
    ]
    path.write_text('{"id": 1}\n{"text": true}\n{"text": 1.5}\n')
    documents, remarks = read(path)
    assert rows(documents) == [(3, "", "1.5")]
    assert remarks.problems == ["row 2: column 'text' holds no text"]
    assert remarks.notes == ["rows without text: 1"]


PDF = files.pdf(["A page."])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", os.urandom(4000), "no text in any encoding|is binary"),
        ("a.md", bytes(range(32)) * 40, "no text in any encoding|is binary"),
        ("a.pdf", files.pdf(["", ""]), r"no text layer .*pages: 2.*ocrmypdf"),
        ("a.pdf", files.encrypted(PDF, "secret"), "encrypted.*qpdf --decrypt"),
        ("a.pdf", PDF[:100], "no whole pdf"),
        ("a.pdf", b"hello", "no whole pdf"),
        ("a.docx", b"hello", "no whole docx"),
        ("a.pptx", b"PK\x03\x04" + b"x" * 50, "no whole pptx"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 600, "encrypted, or .*without a password"),
        ("a.parquet", b"PAR1 no", "no whole Parquet"),
        ("a.csv", b"a,b\n1,2\n", "choose with --text-field from: a, b"),
        ("a.csv", b"text,title,text\n1,2,3\n", "has two columns 'text': rename one, or leave it out"),
        ("a.csv", b"text,title,title\n1,2,3\n", "has two columns 'title'"),
        ("a.jsonl", b'{"a": "x", "b": 1}\n', "choose with --text-field from: a, b"),
    ],
)
def test_bad_files_say_why_and_what_to_do(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableError, match=said):
        read(tmp_path / name)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,title\nx,y\n")
    with pytest.raises(UnreadableError, match="no column 'body'; its columns: text, title"):
        read(tmp_path / "a.csv", text_fields=("body",))
