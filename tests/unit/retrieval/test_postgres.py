"""Passages in a real PostgreSQL with pgvector: ranks against numbers worked by hand and numpy, fills that are
killed, a server that is stopped, hangs and comes back, and everything that can be wrong with a table."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ragdro.config.retriever import parse_settings
from ragdro.config.stores import PostgresSettings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval import make_retriever
from ragdro.retrieval.cache import cached_candidates, fill_store
from ragdro.retrieval.database import DatabaseRetriever
from ragdro.retrieval.hybrid import fuse
from ragdro.retrieval.postgres_fill import _Fill
from ragdro.retrieval.postgres_session import PostgresSession
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


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    return postgres.database()


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


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture
def killed_in_third_batch(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows that reached the database, in batches; the third is never written, the first time."""
    written: list[int] = []
    write = _Fill._write

    def counting(self: _Fill, rows: Any, connection: Any) -> None:
        if len(written) == 2:
            written.append(0)
            raise Killed
        write(self, rows, connection)
        written.append(len(rows))

    monkeypatch.setattr(_Fill, "_write", counting)
    yield written


def test_a_fill_that_is_killed_shows_nothing_and_resumes(
    dsn: str, postgres: Postgres, tmp_path: Path, killed_in_third_batch: list[int]
) -> None:
    retriever = made(dsn, batch_size=10)
    with pytest.raises(Killed):
        retriever.fill(generated_corpus(35), tmp_path / "f", "one")
    with pytest.raises(RetrievalError, match="there is no such table"):
        made(dsn).check()
    assert made(dsn, batch_size=10).fill(generated_corpus(35), tmp_path / "f", "one") == 35
    assert killed_in_third_batch == [10, 10, 0, 10, 5]
    assert [p.id for p in retriever.passages()] == sorted(p.id for p in generated_corpus(35))
    assert postgres.execute("SELECT to_regclass('passages__filling')::text", dsn=dsn) == [(None,)]
    assert made(dsn).fill(iter(()), tmp_path / "f", "one") == 35  # it is there: nothing is read
    assert killed_in_third_batch == [10, 10, 0, 10, 5]


def test_a_killed_fill_of_another_corpus_is_begun_anew_and_leaves_the_old_one(
    dsn: str, postgres: Postgres, tmp_path: Path, killed_in_third_batch: list[int]
) -> None:
    filled(dsn, tmp_path, generated_corpus(7), batch_size=7)
    with pytest.raises(Killed):
        made(dsn, batch_size=10).fill(generated_corpus(35, seed=1), tmp_path / "g", "two")
    assert [p.text for p in made(dsn).passages()] == [p.text for p in generated_corpus(7)]
    postgres.execute("CREATE ROLE reader LOGIN", dsn=dsn)
    postgres.execute("GRANT SELECT ON passages TO reader", dsn=dsn)
    assert made(dsn, batch_size=40).fill(generated_corpus(12, seed=2), tmp_path / "h", "three") == 12
    assert [p.text for p in made(f"{dsn}&user=reader").passages()] == [
        p.text for p in sorted(generated_corpus(12, seed=2), key=lambda p: p.id)
    ]
    postgres.execute("DROP OWNED BY reader", dsn=dsn)
    postgres.execute("DROP ROLE reader", dsn=dsn)


def test_only_one_fill_of_a_table_runs(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('ragdro index'), hashtext('passages'))")
        with pytest.raises(RetrievalError, match="gave up after 3 tries: another `ragdro index` fills"):
            made(dsn).fill(generated_corpus(3), tmp_path / "f", "x")


def test_what_was_filled_is_known_again(dsn: str, postgres: Postgres, tmp_path: Path) -> None:
    retriever = filled(dsn, tmp_path, generated_corpus(5))
    retriever.check_corpus("a corpus")
    with pytest.raises(RetrievalError, match="filled from another corpus"):
        retriever.check_corpus("another")
    german = made(dsn, full_text={"language": "german"})
    with pytest.raises(RetrievalError, match=r"filled with other settings \(retriever.full_text: .*english"):
        german.check()
    made(dsn, full_text={"rank": "ts_rank_cd", "weight": 2.0}, depth=3).check()  # of the search alone
    postgres.execute("DELETE FROM passages WHERE id = 'p1'", dsn=dsn)
    with pytest.raises(RetrievalError, match="4 passages, and `ragdro index` wrote 5"):
        made(dsn).check()


def test_candidates_are_cached_under_the_fill(dsn: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"id": "a", "text": "A bridge."}\n{"id": "b", "text": "A river."}\n')
    settings, asked = parse_settings({"kind": "postgres", "dsn": dsn}), [Question("q", "river", ())]
    assert fill_store(str(corpus), made(dsn), tmp_path) == 2
    for source in (None, corpus):
        (found,) = cached_candidates(asked, source, settings, 2, tmp_path)
        assert [p.id for p in found.passages] == ["b"]
    assert len(list((tmp_path / "candidates").glob("*.jsonl"))) == 1
    corpus.write_text('{"id": "c", "text": "A river."}\n')
    with pytest.raises(RetrievalError, match="filled from another corpus than data"):
        cached_candidates(asked, corpus, settings, 2, tmp_path)
    fill_store(str(corpus), made(dsn), tmp_path)
    assert cached_candidates(asked, corpus, settings, 2, tmp_path)[0].passages[0].id == "c"


def test_a_server_that_restarts_in_the_middle_is_waited_for(
    dsn: str, postgres: Postgres, tmp_path: Path
) -> None:
    retriever = filled(dsn, tmp_path, generated_corpus(60), retries=8, backoff_seconds=0.1)
    questions = generated_questions(200)
    whole = list(retriever.search(questions, 3))
    search = retriever.search(questions, 3)
    begun = [next(search)]
    postgres.stop()
    starter = threading.Timer(0.5, postgres.start)
    starter.start()
    assert begun + list(search) == whole
    starter.join()


def test_a_fill_goes_on_through_a_restart(
    dsn: str, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = _Fill._write, 0

    def cut(self: _Fill, rows: Any, connection: Any) -> None:
        nonlocal count
        write(self, rows, connection)
        count += 1
        if count == 2:  # written, and the answer is lost
            postgres.stop()
            postgres.start()
            connection.execute("SELECT 1")

    monkeypatch.setattr(_Fill, "_write", cut)
    retriever = made(dsn, batch_size=10)
    assert retriever.fill(generated_corpus(35), tmp_path / "f", "x") == 35


def test_a_server_that_stays_away_is_one_line(dsn: str, postgres: Postgres, tmp_path: Path) -> None:
    retriever = filled(dsn, tmp_path, generated_corpus(5))
    postgres.stop()
    try:
        with pytest.raises(RetrievalError) as caught:
            list(retriever.search([Question("q", "bridge", ())], 3))
    finally:
        postgres.start()
    line = str(caught.value)
    assert line.startswith("PostgreSQL at /") and "(retriever.dsn): gave up after 3 tries: " in line
    assert len(ids(retriever, "river", 3)) == 3  # the same retriever, afterwards


@pytest.mark.parametrize("how", ["locked", "frozen"])
def test_a_server_that_is_slow_or_hangs_is_given_up(
    dsn: str, postgres: Postgres, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ragdro.retrieval.postgres_session._GRACE", 0.2)
    retriever = filled(dsn, tmp_path, generated_corpus(5), retries=0, timeout_seconds=0.5)
    ids(retriever, "river")
    asking = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'ragdro' AND datname = current_database()"
    )
    (backend,) = postgres.execute(asking, dsn=dsn)[0]
    with psycopg.connect(dsn) as other:
        if how == "locked":
            other.execute("LOCK TABLE passages IN ACCESS EXCLUSIVE MODE")
        else:
            postgres.freeze(backend)
        start = time.monotonic()
        try:
            with pytest.raises(RetrievalError, match=r"gave up after 1 try: no answer within 0.5 s"):
                ids(retriever, "river")
        finally:
            if how != "locked":  # such a one may be gone by now
                postgres.thaw(backend)
    assert time.monotonic() - start < 3
    assert ids(retriever, "river")


def test_no_password_is_kept_or_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in (
        "postgresql://me:S3cret@host/db",
        "host=h password = S3cret",
        "postgresql://h/d?password=S3cret",
    ):
        with pytest.raises(ConfigError, match="dsn holds a password") as caught:
            parse_settings({"kind": "postgres", "dsn": secret})
        assert "S3cret" not in str(caught.value)
    monkeypatch.setenv(
        "WIKI_DSN", "host=127.0.0.1 port=1 user=me password=S3cret dbname=wiki connect_timeout=2"
    )
    retriever = made("$WIKI_DSN", retries=0)
    with pytest.raises(RetrievalError, match=r"PostgreSQL at 127.0.0.1:1, database wiki") as caught_later:
        retriever.check()
    assert "S3cret" not in f"{caught_later.value!r} {retriever.settings} {retriever.place}"
    monkeypatch.setenv("WIKI_DSN", "S3cret without a form")
    with pytest.raises(
        RetrievalError, match=r"retriever.dsn: \$WIKI_DSN is no connection string"
    ) as misspelt:
        made("$WIKI_DSN")
    assert "S3cret" not in f"{misspelt.value} {misspelt.value.__cause__}"
    monkeypatch.delenv("WIKI_DSN")
    with pytest.raises(RetrievalError, match=r"retriever.dsn: \$WIKI_DSN is not set"):
        made("$WIKI_DSN")


TABLE = "CREATE EXTENSION vector; CREATE TABLE t (id text, title text, text text, ts tsvector, v vector(3));"
ROW = "INSERT INTO t VALUES ('a', 't', 'river', to_tsvector('river'), '[1,0,0]');"
PLAIN = {"table": "t", "columns": {"source": None}, "full_text": {"column": "ts"}}


@pytest.mark.parametrize(
    ("statements", "values", "line"),
    [
        (ROW, {"table": "nowhere"}, "retriever.table: there is no such table"),
        ("", {}, "retriever.table: the table is empty"),
        (ROW, {"columns": {}}, "no column 'source'; there are id, title, text, ts, v; null"),
        (ROW, {"columns": {"source": None, "text": "body"}}, "columns.text: there is no column 'body'"),
        (ROW, {"full_text": {}}, "retriever.full_text.column: there is no column 'text_search'"),
        (ROW, {"full_text": {"column": "text"}}, "'text' is of type text, not tsvector"),
        (ROW, {"full_text": {"column": "ts", "language": "klingon"}}, "no 'klingon'; there are arabic"),
        (ROW, {"vectors": {"model": "m", "column": "ts"}}, "not vector or halfvec"),
        (ROW + ROW, {}, "the passage id 'a' occurs more than once"),
    ],
)  # fmt: skip
def test_a_table_that_lacks_something_is_refused_by_key(
    dsn: str, postgres: Postgres, statements: str, values: dict[str, Any], line: str
) -> None:
    postgres.execute((TABLE + statements).replace("{}", ""), dsn=dsn)
    with pytest.raises(RetrievalError, match="(?s)PostgreSQL at .*" + line.replace("(", r"\(")):
        ids(made(dsn, **{**PLAIN, **values}), "river")


@pytest.mark.slow
def test_vectors_of_another_width_are_refused(dsn: str, postgres: Postgres, random_bert: Path) -> None:
    postgres.execute(TABLE + ROW, dsn=dsn)
    retriever = made(dsn, **PLAIN, vectors={"model": str(random_bert), "column": "v", "device": "cpu"})
    with pytest.raises(
        RetrievalError, match=r"retriever.vectors.model: .* column v has vectors of 3 numbers, .* 32"
    ):
        ids(retriever, "river")


def test_a_connection_that_was_not_prepared_is_not_used(dsn: str) -> None:
    settings = parse_settings({"kind": "postgres", "dsn": dsn, **QUICK})
    assert isinstance(settings, PostgresSettings)
    seen: list[psycopg.Connection[Any]] = []

    def refuse_once(connection: psycopg.Connection[Any]) -> None:
        seen.append(connection)
        if len(seen) == 1:
            connection.execute("SELECT nonesuch")
        connection.execute("SET search_path = prepared")

    session = PostgresSession(settings, refuse_once)
    with pytest.raises(RetrievalError, match="nonesuch"):
        session.run(lambda connection: connection.execute("SHOW search_path").fetchone())
    assert seen[0].closed
    assert session.run(lambda connection: connection.execute("SHOW search_path").fetchone()) == ("prepared",)
    assert len(seen) == 2
    session.close()


def test_a_user_without_rights_is_told(
    dsn: str, postgres: Postgres, tmp_path: Path, random_bert: Path
) -> None:
    postgres.execute("CREATE ROLE stranger LOGIN", dsn=dsn)
    try:
        stranger = f"{dsn}&user=stranger"
        filled(dsn, tmp_path, generated_corpus(3))
        with pytest.raises(RetrievalError, match="no right to that: permission denied for table passages"):
            ids(made(stranger), "river")
        with pytest.raises(RetrievalError, match="no right to that: permission denied for schema public"):
            made(stranger, table="other").fill(generated_corpus(3), tmp_path / "f", "x")
        vectors = {"model": str(random_bert), "device": "cpu"}
        with pytest.raises(RetrievalError, match=r"has no extension 'vector'.*CREATE EXTENSION vector"):
            made(stranger, table="other", vectors=vectors).fill(generated_corpus(3), tmp_path / "g", "x")
    finally:
        postgres.execute("DROP ROLE stranger", dsn=dsn)


@pytest.mark.parametrize(
    ("passages", "line"),
    [
        ([], "the corpus holds no passage"),
        ([Passage("a", "", "x"), Passage("a", "", "y")], "the passage id 'a' twice"),
        ([Passage("a", "", "x\0y")], "passage 'a' holds a NUL"),
        ([Passage("a", "", "x\ud800")], "passage 'a' holds a NUL or half a surrogate"),
        ([Passage("a", "", " ".join(f"word{i}" for i in range(200_000)))], "too long for tsvector"),
    ],
)  # fmt: skip
def test_a_corpus_that_cannot_be_kept_leaves_nothing(
    dsn: str, tmp_path: Path, passages: list[Passage], line: str
) -> None:
    with pytest.raises(RetrievalError, match=line):
        made(dsn).fill(passages, tmp_path / "f", "x")
    with pytest.raises(RetrievalError, match="there is no such table"):
        made(dsn).check()
