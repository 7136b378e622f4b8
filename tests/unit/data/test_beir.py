"""BEIR folders as they are published."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ragdro.data import read_corpus, read_questions
from ragdro.errors import DataError
from tests.unit.data import originals as o
from tests.unit.data.test_readers import put


def beir(folder: Path, corpus: list[Any], queries: list[Any], qrels: str) -> Path:
    put(folder, o.jsonl(*corpus), "beir/corpus.jsonl")
    put(folder, o.jsonl(*queries), "beir/queries.jsonl")
    put(folder, qrels.encode(), "beir/qrels/test.tsv")
    return folder / "beir"


CORPUS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
QUERIES = [{"_id": "q1", "text": "who?"}, {"_id": "q2", "text": "what?"}]
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    "qrels",
    [
        HEADER + "q1\td1\t1\nq2\td2\t2\n",
        HEADER + "q1\td1\t1.0\nq2\td2\t0.5\nq2\td1\t0.0\n",
        "q1\td1\t1\nq2\td2\t1\n",
        "q1 0 d1 1\nq2 0 d2 1\nq2 0 d1 -1\n",
        "query_id\tdoc_id\trelevance\nq1\td1\t1\nq2\td2\t1\n",
    ],
)
def test_relevance_judgements_in_every_spelling(tmp_path: Path, qrels: str) -> None:
    folder = beir(tmp_path, CORPUS, QUERIES, qrels)
    for source in (folder, folder / "qrels" / "test.tsv"):
        gold = [[p.id for p in q.gold_passages] for q in read_questions(source)]
        assert gold == [["d1"], ["d2"]]


def test_what_a_published_beir_folder_lacks_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    empty = {"_id": "d3", "title": " ", "text": ""}
    qrels = HEADER + "q1\td1\t1\nq1\td9\t1\nq2\td3\t1\nq7\td2\t1\n"
    folder = beir(tmp_path, [*CORPUS, empty], QUERIES, qrels)
    with caplog.at_level(logging.WARNING):
        questions = list(read_questions(folder))
        assert [p.id for p in read_corpus(folder)] == ["d1", "d2"]
    assert [[p.id for p in q.gold_passages] for q in questions] == [["d1"], []]
    documents, queries, left_out = (record.getMessage() for record in caplog.records)
    assert "lacks 2 of 4 judged documents, such as 'd3'" in documents
    assert "lacks 1 of 3 judged queries, such as 'q7'" in queries
    assert "1 empty documents left out" in left_out
    with pytest.raises(DataError, match=r"test.tsv:2: has no score, but 'x'"):
        list(read_questions(beir(tmp_path, CORPUS, QUERIES, HEADER + "q1\td1\tx\n")))
