"""A PostgreSQL server that restarts, hangs or stays away, and tables and users that lack something."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ragdro.config.retriever import parse_settings
from ragdro.config.stores import PostgresSettings
from ragdro.errors import ConfigError, RetrievalError
from ragdro.retrieval.postgres_session import PostgresSession
from ragdro.types import Question
from tests.databases import Postgres
from tests.unit.retrieval.conftest import generated_corpus, generated_questions
from tests.unit.retrieval.test_postgres import QUICK, filled, ids, made


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
