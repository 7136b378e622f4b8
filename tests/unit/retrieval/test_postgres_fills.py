"""Fills of a PostgreSQL table: killed, resumed, of another corpus, two at once, through a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ragdro.config.retriever import parse_settings
from ragdro.errors import RetrievalError
from ragdro.retrieval.cache import cached_candidates, fill_store
from ragdro.retrieval.postgres_fill import _Fill
from ragdro.types import Passage, Question
from tests.databases import Postgres
from tests.unit.retrieval.conftest import generated_corpus
from tests.unit.retrieval.test_postgres import filled, made


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
