"""Passages in a real PostgreSQL with pgvector: ranks against numbers worked by hand and numpy, fills that are
killed, a server that is stopped, hangs and comes back, and everything that can be wrong with a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragdro.config.retriever import parse_settings
from ragdro.errors import RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.database import DatabaseRetriever
from ragdro.retrieval.hybrid import fuse
from ragdro.types import Passage, PassageSource, Question
from tests.databases import Postgres
from tests.unit.retrieval.conftest import generated_corpus, generated_questions

QUICK = {"retries": 2, "backoff_seconds": 0.01, "timeout_seconds": 20.0}
ONE_WORD = 0.1 / 1.64493406685
"""ts_rank of a passage that has a one-word question's word once: PostgreSQL's weight of it over pi^2/6."""


def made(dsn: str, **values: Any) -> DatabaseRetriever[Any]:
    retriever = make_retriever(parse_settings({"kind": "postgres", "dsn": dsn, **QUICK, **values}))
    assert isinstance(retriever, DatabaseRetriever)
    return retriever


def filled(dsn: str, folder: Path, passages: list[Passage], **values: Any) -> DatabaseRetriever[Any]:
    retriever = made(dsn, **values)
    assert retriever.fill(passages, folder / "filling", "a corpus") == len(passages)
    return retriever


def ids(retriever: DatabaseRetriever[Any], question: str, top_n: int = 10) -> list[str]:
    (found,) = retriever.search([Question("q", question, ())], top_n)
    return [passage.id for passage in found.passages]


def test_words_are_ranked_as_worked_by_hand_and_ties_stand_by_id(dsn: str, tmp_path: Path) -> None:
    texts = {"c": "A bridge.", "a": "the Bridges", "B": "castle", "d": "a castle bridge", "e": "winter"}
    retriever = filled(dsn, tmp_path, [Passage(name, "", text) for name, text in texts.items()])
    one, two, none = retriever.search(
        [Question(name, text, ()) for name, text in
         (("1", "Which bridge is it?"), ("2", "bridge or castle"), ("3", "What of the painter?"))], 4,
    )  # fmt: skip
    assert [p.id for p in one.passages] == ["a", "c", "d"]
    assert one.scores == pytest.approx([ONE_WORD] * 3, rel=1e-6)
    assert [p.id for p in two.passages] == ["d", "B", "a", "c"]  # of two words both, or one
    assert two.scores == pytest.approx([ONE_WORD, *[ONE_WORD / 2] * 3], rel=1e-6)
    assert none.scores == (0.0,) * 4


def test_a_question_that_matches_nothing_gets_the_first_passages_and_a_warning(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = filled(dsn, tmp_path, generated_corpus(5))
    (found,) = retriever.search([Question("q", "What is the?", ())], 3)
    assert found.scores == (0.0, 0.0, 0.0) and [p.id for p in found.passages] == ["p0", "p1", "p2"]
    assert "1 of 1 questions share no word with PostgreSQL at" in caplog.text


@pytest.mark.slow
def test_vectors_are_ranked_as_numpy_does(dsn: str, tmp_path: Path, random_bert: Path) -> None:
    from tests.unit.retrieval.test_dense import by_hand

    corpus, questions = generated_corpus(60), generated_questions(9)
    passages = by_hand(random_bert, [f"{p.title} {p.text}" for p in corpus])
    products = by_hand(random_bert, [q.question for q in questions]) @ passages.T
    model = {"model": str(random_bert), "device": "cpu"}
    exact = filled(dsn, tmp_path, corpus, full_text=None, vectors=model, batch_size=17)
    for row, found in zip(products, exact.search(questions, 12), strict=True):
        score = {passage.id: row[i] for i, passage in enumerate(corpus)}
        assert found.scores == pytest.approx(np.sort(row)[::-1][:12].tolist(), abs=1e-4)
        assert [score[p.id] for p in found.passages] == pytest.approx(found.scores, abs=1e-4)

    graph = {**model, "index": {"type": "hnsw"}}
    both = filled(dsn, tmp_path, corpus, table="both", vectors=graph)
    only = {"table": "both", "depth": 20}
    by_graph = list(made(dsn, **only, full_text=None, vectors=graph).search(questions, 20))
    assert [c.passages for c in by_graph] == [c.passages for c in exact.search(questions, 20)]
    by_words = list(made(dsn, **only).search(questions, 20))
    fused = made(dsn, **only, full_text={"weight": 2.0}, vectors=graph).search(questions, 5)
    for words, vectors, found in zip(by_words, by_graph, fused, strict=True):
        assert found == fuse([words, vectors], [2.0, 1.0], 60.0, 5)
    plan = psycopg.connect(dsn).execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'both'").fetchall()
    assert {"hnsw", "gin", "btree"} <= {word for (line,) in plan for word in line.split()}
    assert both.manifest() is not None


def test_tables_of_somebody_else_s_are_searched_by_their_names(
    dsn: str, postgres: Postgres, tmp_path: Path
) -> None:
    postgres.execute(
        "CREATE SCHEMA web; CREATE TABLE web.{} (nr int PRIMARY KEY, body text, {} text, url text);"
        "INSERT INTO web.{} VALUES (7, 'A river.', NULL, 'a.html'), (10, 'A bridge and a river.', 'B', NULL)",
        'Pages "all"', 'the "title"', 'Pages "all"', dsn=dsn,
    )  # fmt: skip
    columns = {"id": "nr", "title": 'the "title"', "text": "body", "source": "url"}
    retriever = made(dsn, table='web.Pages "all"', columns=columns, full_text={"column": None})
    (found,) = retriever.search([Question("7", "a river", ())], 5)  # itself a passage, and left out
    assert found.passages == (Passage("10", "B", "A bridge and a river."),)
    first, second = retriever.passages()
    assert first == Passage("7", "", "A river.", source=PassageSource("a.html", 0, 8)) and second.id == "10"
    assert not retriever.is_cacheable()
    with pytest.raises(RetrievalError, match="`ragdro index` did not fill it"):
        retriever.check_corpus("x")
    with pytest.raises(RetrievalError, match=r"retriever.table: `ragdro index` did not make this table"):
        retriever.fill(generated_corpus(3), tmp_path / "f", "x")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_question_is_read_as_anything_but_words(shared: DatabaseRetriever[Any], text: str) -> None:
    asked = f"{text} bridge"
    found = set(ids(shared, asked, 60))
    lexemes = "SELECT unnest(tsvector_to_array(to_tsvector('english', %s)))"
    having = f"SELECT id FROM passages WHERE tsvector_to_array(text_search) && ARRAY({lexemes})"
    with psycopg.connect(shared.settings.dsn) as connection:
        assert found == {row[0] for row in connection.execute(having, [asked.replace("\0", " ")]).fetchall()}


@pytest.fixture(scope="module")
def shared(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> DatabaseRetriever[Any]:
    return filled(postgres.database(), tmp_path_factory.mktemp("shared"), generated_corpus(60))


@pytest.mark.parametrize(
    "question", ["'); DROP TABLE passages; --", "it's a \\' bridge' | 'x", "$1 %s {} :* & ! <-> bridge"]
)
def test_nothing_in_a_question_reaches_the_statement(shared: DatabaseRetriever[Any], question: str) -> None:
    ids(shared, question)
    assert shared.check() == 60
