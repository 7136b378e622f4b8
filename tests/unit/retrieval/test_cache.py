"""The cache: what was searched is not searched again, and nothing half-done is taken for whole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ragdro.config.retriever import Bm25Settings, GivenSettings, HybridSettings, RetrieverSettings
from ragdro.errors import DataError, RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.bm25 import Bm25Retriever
from ragdro.retrieval.cache import cache_key, cached_candidates, cached_retriever
from ragdro.retrieval.candidates import read_candidates, write_candidates
from ragdro.types import Candidates, Passage, Question
from tests.unit.retrieval.conftest import generated_corpus, generated_questions


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    write_corpus(path, generated_corpus(40))
    return path


def write_corpus(path: Path, corpus: Sequence[Passage]) -> None:
    lines = [json.dumps({"id": p.id, "title": p.title, "text": p.text}) for p in corpus]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the questions that BM25 has searched, in order."""
    seen: list[str] = []
    search_batch = Bm25Retriever._search_batch

    def counted(self: Bm25Retriever, questions: Sequence[Question], top_n: int) -> list[Candidates]:
        seen.extend(question.id for question in questions)
        return search_batch(self, questions, top_n)

    monkeypatch.setattr(Bm25Retriever, "_search_batch", counted)
    return seen


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a BM25 index was built in."""
    seen: list[Path] = []
    build_index = Bm25Retriever._build_index

    def counted(self: Bm25Retriever, store: Any, folder: Path) -> None:
        seen.append(folder)
        build_index(self, store, folder)

    monkeypatch.setattr(Bm25Retriever, "_build_index", counted)
    return seen


_READ_ONLY = """
import json, os, pathlib, tempfile
from ragdro.config.retriever import Bm25Settings
from ragdro.retrieval import hashing
from ragdro.retrieval.cache import cached_candidates, cached_retriever
from ragdro.types import Question
def searched(folder):
    hashing._known_hash.cache_clear()
    source, cache = folder / "corpus.jsonl", folder / "index"
    texts = ["Mara works in Holm", "Ink is made in Holm"]
    lines = [json.dumps({"id": str(i), "title": "", "text": text}) for i, text in enumerate(texts)]
    if not source.exists():
        source.write_text("\\n".join(lines))
        os.utime(source, ns=(10**18, 10**18))
    asked = [Question("q", "where is ink made?", ())]
    opened = cached_retriever(source, Bm25Settings(), cache)
    if os.access(folder, os.W_OK):
        return list(opened.search(asked, 1))
    return [list(opened.search(asked, 1)), cached_candidates(asked, source, Bm25Settings(), 1, cache)]
with tempfile.TemporaryDirectory() as other:
    searched(pathlib.Path(other))  # all that is imported on the way is imported
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = pathlib.Path(tempfile.mkdtemp())
found = searched(folder)
(folder / "index/hashes").rename(folder / "hashes")  # it was moved to another place since
folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
for path in folders:
    path.chmod(0o555)
assert searched(folder) == [found, found] and found[0].passages[0].id == "1"
for path in folders:
    path.chmod(0o755)
import shutil; shutil.rmtree(folder)
"""


def test_a_folder_that_may_not_be_written_is_searched_by_the_index_that_it_brings() -> None:
    done = subprocess.run([sys.executable, "-c", _READ_ONLY], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_second_call_does_not_search_and_gives_the_same(
    source: Path, questions: list[Question], searched: list[str], built: list[Path], tmp_path: Path
) -> None:
    first = cached_candidates(questions, source, Bm25Settings(), 5, tmp_path / "cache")
    assert searched == [question.id for question in questions]
    again = cached_candidates(questions, source, Bm25Settings(), 5, tmp_path / "cache")
    assert len(searched) == len(questions)
    assert again == first
    direct = make_retriever(Bm25Settings())
    direct.build(generated_corpus(40), tmp_path / "direct")
    direct.open(tmp_path / "direct")
    assert list(direct.search(questions, 5)) == first


def test_whatever_the_result_depends_on_makes_a_new_search_and_the_index_is_reused(
    source: Path, questions: list[Question], searched: list[str], built: list[Path], tmp_path: Path
) -> None:
    def search(asked: list[Question], settings: RetrieverSettings, top_n: int) -> int:
        before = len(searched)
        cached_candidates(asked, source, settings, top_n, tmp_path / "cache")
        return len(searched) - before

    assert search(questions, Bm25Settings(), 5) == len(questions)
    assert search(questions, Bm25Settings(), 6) == len(questions)
    assert search(questions[:4], Bm25Settings(), 5) == 4
    other_text = [Question(q.id, q.question + " river", q.answers) for q in questions]
    assert search(other_text, Bm25Settings(), 5) == len(questions)
    assert len(built) == 1
    assert search(questions, Bm25Settings(k1=1.0), 5) == len(questions)
    assert len(built) == 2
    write_corpus(source, generated_corpus(40, seed=9))
    assert search(questions, Bm25Settings(), 5) == len(questions)
    assert len(built) == 3
    same_answers_matter_not = [Question(q.id, q.question, ("other",)) for q in questions]
    assert search(same_answers_matter_not, Bm25Settings(), 5) == 0


def test_what_is_found_by_other_settings_has_another_key(source: Path, questions: list[Question]) -> None:
    def read(_: str) -> Iterator[Passage]:
        raise AssertionError("a file is hashed, not read")

    def key(settings: RetrieverSettings) -> str:
        return cache_key(questions, str(source), make_retriever(settings), 5, read).candidates

    changed: list[RetrieverSettings] = [
        Bm25Settings(k1=1.3),
        Bm25Settings(b=0.5),
        Bm25Settings(method="atire"),
        Bm25Settings(language="german"),
        Bm25Settings(stemmer="german"),
        Bm25Settings(stopwords=None),
        HybridSettings(members=(Bm25Settings(),)),
        HybridSettings(members=(Bm25Settings(),), constant=1.0),
    ]
    keys = [key(Bm25Settings()), *map(key, changed)]
    assert len(set(keys)) == len(keys)
    assert key(Bm25Settings()) == keys[0]


def test_the_user_s_names_of_a_corpus_s_fields_are_part_of_the_key(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("first,second\nriver,castle\nbridge,river\n")
    asked = [Question("q", "castle", ())]
    for column, expected in (("first", "river"), ("second", "castle")):
        (candidates,) = cached_candidates(asked, corpus, Bm25Settings(), 1, tmp_path, fields={"text": column})
        assert candidates.passages[0].text == expected
        retriever = cached_retriever(corpus, Bm25Settings(), tmp_path, fields={"text": column})
        assert retriever.store[0].text == expected


def test_a_killed_search_goes_on_after_its_finished_batches(
    source: Path, searched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, cache = generated_questions(20), tmp_path / "cache"
    monkeypatch.setattr(Bm25Retriever, "batch_size", 4)
    plain = cached_candidates(questions, source, Bm25Settings(), 5, tmp_path / "plain")
    searched.clear()
    search_batch = Bm25Retriever._search_batch

    def killed(self: Bm25Retriever, asked: Sequence[Question], top_n: int) -> list[Candidates]:
        if len(searched) == 12:
            raise KeyboardInterrupt
        return search_batch(self, asked, top_n)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Bm25Retriever, "_search_batch", killed)
        cached_candidates(questions, source, Bm25Settings(), 5, cache)
    partial = next((cache / "candidates").glob("*.partial"))
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 12
    partial.write_bytes(b"".join(lines[:10]) + lines[10][:30])  # torn: two whole batches and a half are left
    searched.clear()
    assert cached_candidates(questions, source, Bm25Settings(), 5, cache) == plain
    assert searched == [question.id for question in questions[8:]]
    assert not partial.exists()


def test_given_candidates_are_the_questions_own_and_need_no_corpus(tmp_path: Path) -> None:
    passages = tuple(generated_corpus(8))
    own = Candidates("b", passages[4:], (4.0, 3.0, 2.0, 1.0))
    questions = [Question("a", "x", (), passages[:4]), Question("b", "y", (), passages[:4], own)]
    candidates = cached_candidates(questions, None, GivenSettings(), 3, tmp_path)
    assert candidates == [Candidates("a", passages[:3]), Candidates("b", passages[4:7], (4.0, 3.0, 2.0))]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RetrievalError, match="question 'c' brings no candidates and no passages"):
        cached_candidates([Question("c", "x", ())], None, GivenSettings(), 3, tmp_path)


def test_given_ids_are_looked_up_in_the_corpus(source: Path, tmp_path: Path) -> None:
    ids = Candidates("a", (Passage("p3", "", ""), Passage("p1", "", "")))
    question = Question("a", "x", (), candidates=ids)
    corpus = generated_corpus(40)
    candidates = cached_candidates([question], source, GivenSettings(), 5, tmp_path / "cache")
    assert candidates[0].passages == (corpus[3], corpus[1])
    with pytest.raises(RetrievalError, match="needs a corpus"):
        cached_candidates([question], None, GivenSettings(), 5, tmp_path / "cache")
    unknown = Question("a", "x", (), candidates=Candidates("a", (Passage("zz", "", ""),)))
    with pytest.raises(RetrievalError, match="question 'a': its candidate 'zz' is not in the corpus"):
        cached_candidates([unknown], source, GivenSettings(), 5, tmp_path / "cache")


def test_a_cached_retriever_builds_once(
    source: Path, questions: list[Question], built: list[Path], tmp_path: Path
) -> None:
    expected = cached_candidates(questions, source, Bm25Settings(), 5, tmp_path)
    for _ in range(2):
        retriever = cached_retriever(source, Bm25Settings(), tmp_path)
        assert list(retriever.search(questions, 5)) == expected
    assert len(built) == 1
    with pytest.raises(RetrievalError, match="needs a corpus, and none is given"):
        cached_retriever(None, Bm25Settings(), tmp_path)


def test_the_candidates_file_comes_back_as_it_was(tmp_path: Path) -> None:
    passages = generated_corpus(3)
    written = [
        Candidates("q1", (passages[0], Passage("g", "t", "x", gold=True)), (0.1, -2.5)),
        Candidates("ü\n", (passages[0], passages[2])),
    ]
    assert write_candidates(tmp_path / "new" / "c.jsonl", written) == 2
    read = list(read_candidates(tmp_path / "new" / "c.jsonl"))
    assert read == written
    assert read[0].passages[0] is read[1].passages[0]
    line = json.loads((tmp_path / "new" / "c.jsonl").read_text().splitlines()[0])
    assert line["question_id"] == "q1" and line["scores"] == [0.1, -2.5]
    assert line["passages"][0] == {"id": "p0", "title": passages[0].title, "text": passages[0].text}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    write_candidates(path, [Candidates("old", (Passage("1", "", "x"),))])

    def failing() -> Iterator[Candidates]:
        yield Candidates("new", (Passage("1", "", "x"),))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_candidates(path, failing())
    assert [candidates.question_id for candidates in read_candidates(path)] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["c.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"question_id": 3, "passages": []}', "'question_id': not a string: 3"),
        ('{"question_id": "q", "passages": {}}', "'passages': not a list"),
        ('{"question_id": "q", "passages": [{"id": "1", "title": ""}]}', r"'passages\[0\]\.text': missing"),
        ('{"question_id": "q", "passages": [], "scores": [1]}', "'scores': not 0 numbers"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"question_id": "q", "passages": []}\n' + line + "\n")
    with pytest.raises(DataError, match=rf"c\.jsonl:2:.*{message}"):
        list(read_candidates(path))
