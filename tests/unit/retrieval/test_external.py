"""Candidates from files: TREC runs, DPR results, and our own candidates files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from ragdro.config.retriever import CandidatesFile, DprResults, ExternalSettings, TrecRun
from ragdro.errors import DataError, RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.cache import cached_candidates
from ragdro.retrieval.candidates import write_candidates
from ragdro.types import Candidates, Passage, Question

ASKED = [Question("q1", "first?", ()), Question("q2", "second?", ())]


def trec(path: Path, corpus: list[Passage], folder: Path, top_n: int) -> list[Candidates]:
    retriever = make_retriever(ExternalSettings(source=TrecRun(path=path)))
    retriever.build(corpus, folder)
    retriever.open(folder)
    return list(retriever.search(ASKED, top_n))


def test_a_run_is_ranked_by_score_then_rank(corpus: list[Passage], tmp_path: Path) -> None:
    lines = [
        "q2 Q0 p5 1 1.0 t",
        "q1 Q0 p9 3 2.5 t",
        "q1 Q0 p1 2 7e0 t",
        "q1 Q0 p3 1 2.5 t",
        "q2\tQ0\tp2\t2\t-3\tt",
    ]
    with gzip.open(tmp_path / "run.gz", "wt") as file:
        file.write("\n".join(lines))
    candidates = trec(tmp_path / "run.gz", corpus, tmp_path / "index", 2)
    assert candidates == [
        Candidates("q1", (corpus[1], corpus[3]), (7.0, 2.5)),
        Candidates("q2", (corpus[5], corpus[2]), (1.0, -3.0)),
    ]
    with pytest.raises(
        RetrievalError, match="question 'q2': the external retriever has 2 of top_n = 3 passages"
    ):
        trec(tmp_path / "run.gz", corpus, tmp_path / "again", 3)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("q1 Q0 p1 1 2.0", r"run:1: 5 fields, not 6"),
        ("q1 Q0 p1 1 2.0 t\nq1 Q0 p2 2 high t", r"run:2: field 'score': not a number: 'high'"),
        ("q1 Q0 p1 1 nan t", r"run:1: field 'score': not a number: 'nan'"),
        ("q1 Q0 p1 1 2.0 t\nq1 Q0 p1 2 1.0 t", r"question 'q1' has a passage twice"),
        ("q1 Q0 p1 1 2.0 t\nq2 Q0 zz 1 1.0 t", r"passage 'zz' of question 'q2' is not in the corpus"),
        ("\n", r"holds no line"),
    ],
)
def test_a_bad_run_is_named(run: str, message: str, corpus: list[Passage], tmp_path: Path) -> None:
    (tmp_path / "run").write_text(run)
    with pytest.raises((DataError, RetrievalError), match=message):
        trec(tmp_path / "run", corpus, tmp_path / "index", 1)


def dpr_record(question: str, scores: list[str]) -> dict[str, object]:
    contexts = [
        {"id": f"wiki:{i}", "title": f"T{i}", "text": f"text {i}", "score": score, "has_answer": False}
        for i, score in enumerate(scores)
    ]
    return {"question": question, "answers": ["x"], "ctxs": contexts}


def test_dpr_results_are_found_by_the_question(tmp_path: Path) -> None:
    path = tmp_path / "dpr.json"
    path.write_text(json.dumps([dpr_record("second?", ["9.5", "8.5"]), dpr_record("first?", ["3.0", "2.0"])]))
    settings = ExternalSettings(source=DprResults(path=path))
    candidates = cached_candidates(ASKED, None, settings, 1, tmp_path / "cache")
    assert [(c.question_id, c.passages[0].id, c.scores) for c in candidates] == [
        ("q1", "wiki:0", (3.0,)),
        ("q2", "wiki:0", (9.5,)),
    ]
    with pytest.raises(RetrievalError, match=r"dpr\.json: no candidates of question 'q3'"):
        cached_candidates([Question("q3", "third?", ())], None, settings, 1, tmp_path / "cache")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "candidates.jsonl"
    settings = ExternalSettings(source=CandidatesFile(path=path))
    for text in ("one", "two"):
        write_candidates(path, [Candidates(q.id, (Passage("1", "", text),), (1.0,)) for q in ASKED])
        candidates = cached_candidates(ASKED, None, settings, 1, tmp_path / "cache")
        assert [c.passages[0].text for c in candidates] == [text, text]
