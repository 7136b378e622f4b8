"""Filling a table of PostgreSQL from a corpus: beside the old one, and then in its place.

Passages are written in the corpus's order, a batch a transaction, into `<table>__filling`, whose comment says
what it is filled with. A fill that was cut off is resumed after its last batch, or begun anew where corpus or
settings are others. Indexes are made on the whole table. One transaction then gives it the name, the manifest
and the old table's grants, and drops the old table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.errors import FeatureNotSupported, InsufficientPrivilege, UndefinedFile

from ragdro.config.stores import GraphIndex, PostgresSettings
from ragdro.data.own import source_object
from ragdro.errors import RetrievalError
from ragdro.progress import track
from ragdro.retrieval.patience import UnavailableError
from ragdro.retrieval.postgres_session import Connection, PostgresSession
from ragdro.retrieval.postgres_table import (
    TableNames,
    as_text,
    check_language,
    oid_of,
    read_manifest,
    write_manifest,
)
from ragdro.retrieval.store import PassageStore
from ragdro.types import Passage

if TYPE_CHECKING:
    from ragdro.retrieval.embedding import Embedding, TokenEmbedding

FILLING = "__filling"
_LONGEST = 63
"""Bytes of a name in PostgreSQL."""
_WIDEST = 2000
"""Numbers of a vector that pgvector's HNSW takes."""


def fill_table(
    settings: PostgresSettings,
    store: PassageStore,
    manifest: dict[str, Any],
    embedding: Embedding | TokenEmbedding | None,
    *,
    show_progress: bool = False,
) -> None:
    """Put the store's passages into the settings' table. RetrievalError for whatever forbids it."""
    _Fill(settings, store, manifest, embedding).run(show_progress)


class _Fill:
    def __init__(
        self,
        settings: PostgresSettings,
        store: PassageStore,
        manifest: dict[str, Any],
        embedding: Embedding | TokenEmbedding | None,
    ) -> None:
        self._settings, self._store, self._manifest = settings, store, manifest
        self._embedding = embedding
        self._names = TableNames(settings)
        self._filling = self._names.beside(FILLING)
        self._session = PostgresSession(settings, self._lock)
        self._place = f"{self._session.place}, table {settings.table}"

    def run(self, show_progress: bool) -> None:
        self._check()
        try:
            done = self._session.run(self._begin)
            starts = range(done, len(self._store), self._settings.batch_size)
            for start in track(starts, "filling", total=len(starts), shown=show_progress):
                self._session.run(partial(self._write, self._rows_from(start)))
            for column, method in self._indexes():
                self._session.run(partial(self._index, column, method), unlimited=True)
            self._session.run(self._swap, unlimited=True)
        finally:
            self._session.close()

    def _check(self) -> None:
        if len((self._names.bare + FILLING).encode()) > _LONGEST:
            raise RetrievalError(f"retriever.table: {self._names.bare!r} is longer than PostgreSQL's names")
        vectors = self._settings.vectors
        if vectors is None or self._embedding is None or not isinstance(vectors.index, GraphIndex):
            return
        if len(self._embedding.probe) > _WIDEST:
            raise RetrievalError(
                f"retriever.vectors.index: pgvector's HNSW takes at most {_WIDEST} numbers a vector, the"
                f" model gives {len(self._embedding.probe)}: type: exact"
            )

    def _lock(self, connection: Connection) -> None:
        """One fill of a table at a time; the lock goes with the connection."""
        row = connection.execute(
            "SELECT pg_try_advisory_lock(hashtext('ragdro index'), hashtext(%s))", [self._settings.table]
        ).fetchone()
        if row is None or not row[0]:
            connection.close()
            raise UnavailableError(f"another `ragdro index` fills table {self._settings.table}")

    def _begin(self, connection: Connection) -> int:
        """Make the table beside, and return how many passages it has already."""
        if oid_of(connection, self._names.table) and read_manifest(connection, self._names) is None:
            raise RetrievalError(
                f"{self._place}: retriever.table: `ragdro index` did not make this table, and does not"
                " replace it: name another one, or search it as it is"
            )
        if read_manifest(connection, self._names, FILLING) == self._manifest:
            count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(self._filling)).fetchone()
            return int(count[0]) if count else 0
        if self._settings.full_text is not None:
            check_language(connection, self._settings.full_text.language, self._place)
        if self._settings.vectors is not None:
            self._require_extension(connection)
        with connection.transaction():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self._filling))
            columns = sql.SQL(", ").join(self._columns())
            connection.execute(sql.SQL("CREATE TABLE {} ({})").format(self._filling, columns))
            write_manifest(connection, self._filling, self._manifest)
        return 0

    def _require_extension(self, connection: Connection) -> None:
        row = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone()
        if row is not None:
            return
        try:
            connection.execute("CREATE EXTENSION vector")
        except (InsufficientPrivilege, FeatureNotSupported, UndefinedFile) as error:
            raise RetrievalError(
                f"{self._place}: retriever.vectors: the database has no extension 'vector' (pgvector), and it"
                f" cannot be made here: {error.diag.message_primary}; somebody with the right to it runs"
                " CREATE EXTENSION vector"
            ) from error

    def _columns(self) -> list[sql.Composable]:
        columns = self._settings.columns
        made = [sql.SQL("{} text PRIMARY KEY").format(sql.Identifier(columns.id))]
        if columns.title is not None:
            made.append(sql.SQL("{} text NOT NULL").format(sql.Identifier(columns.title)))
        made.append(sql.SQL("{} text NOT NULL").format(sql.Identifier(columns.text)))
        if columns.source is not None:
            made.append(sql.SQL("{} jsonb").format(sql.Identifier(columns.source)))
        full_text, vectors = self._settings.full_text, self._settings.vectors
        if full_text is not None and full_text.column is not None:
            words = self._names.words(full_text.language)
            made.append(
                sql.SQL("{} tsvector GENERATED ALWAYS AS ({}) STORED").format(
                    sql.Identifier(full_text.column), words
                )
            )
        if vectors is not None and self._embedding is not None:
            width = sql.SQL(str(len(self._embedding.probe)))
            made.append(sql.SQL("{} vector({}) NOT NULL").format(sql.Identifier(vectors.column), width))
        return list(made)

    def _rows_from(self, start: int) -> list[tuple[str | None, ...]]:
        """One batch, in the order of the columns that are written."""
        passages = list(self._store.rows(start, start + self._settings.batch_size))
        vectors: Sequence[Any] = [None] * len(passages)
        if self._embedding is not None:
            vectors = self._embedding.of_passages(passages)
        return [self._row(*pair) for pair in zip(passages, vectors, strict=True)]

    def _row(self, passage: Passage, vector: Any) -> tuple[str | None, ...]:
        _check_text(passage, self._place)
        columns = self._settings.columns
        source = None if passage.source is None else json.dumps(source_object(passage.source))
        text = passage.text
        if columns.title is None and passage.title:
            raise RetrievalError(
                f"{self._place}: retriever.columns.title: null, and passage {passage.id!r} has a title"
            )
        return (
            passage.id,
            *([] if columns.title is None else [passage.title]),
            text,
            *([] if columns.source is None else [source]),
            *([] if vector is None else [as_text(vector)]),
        )

    def _write(self, rows: Sequence[tuple[str | None, ...]], connection: Connection) -> None:
        """All rows or none; nothing where they are there, from a try whose answer was lost."""
        columns, vectors = self._settings.columns, self._settings.vectors
        named = [columns.id, columns.title, columns.text, columns.source, vectors and vectors.column]
        there = sql.SQL("SELECT 1 FROM {} WHERE {} = %s").format(self._filling, sql.Identifier(columns.id))
        copy = sql.SQL("COPY {} ({}) FROM STDIN").format(
            self._filling, sql.SQL(", ").join(sql.Identifier(name) for name in named if name)
        )
        with connection.transaction():
            if connection.execute(there, [rows[0][0]]).fetchone() is None:
                with connection.cursor().copy(copy) as copying:
                    for row in rows:
                        copying.write_row(row)

    def _indexes(self) -> list[tuple[str, sql.Composable]]:
        """The columns that get an index, and which."""
        full_text, vectors = self._settings.full_text, self._settings.vectors
        made: list[tuple[str, sql.Composable]] = []
        if full_text is not None and full_text.column is not None:
            name = sql.Identifier(full_text.column)
            made.append((full_text.column, sql.SQL("gin ({})").format(name)))
        if vectors is not None and isinstance(vectors.index, GraphIndex):
            operators = {"cosine": "vector_cosine_ops", "inner_product": "vector_ip_ops"}[vectors.distance]
            graph = sql.SQL("hnsw ({} {}) WITH (m = {}, ef_construction = {})").format(
                sql.Identifier(vectors.column),
                sql.SQL(operators),
                sql.Literal(vectors.index.neighbours),
                sql.Literal(vectors.index.ef_construction),
            )
            made.append((vectors.column, graph))
        return made

    def _index(self, column: str, method: sql.Composable, connection: Connection) -> None:
        there = connection.execute(
            "SELECT 1 FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)"
            " WHERE indrelid = %s::oid AND attname = %s",
            [oid_of(connection, self._filling), column],
        ).fetchone()
        if there is None:
            connection.execute(sql.SQL("CREATE INDEX ON {} USING {}").format(self._filling, method))

    def _swap(self, connection: Connection) -> None:
        """The table beside takes the name; nothing where it has it, from a try whose answer was lost."""
        if read_manifest(connection, self._names) == self._manifest:
            return
        connection.execute(sql.SQL("ANALYZE {}").format(self._filling))
        with connection.transaction():
            old = oid_of(connection, self._names.table)
            if old is not None:
                for grant in _grants(connection, old, self._filling):
                    connection.execute(grant)
                connection.execute(sql.SQL("DROP TABLE {}").format(self._names.table))
            rename = sql.SQL("ALTER TABLE {} RENAME TO {}")
            connection.execute(rename.format(self._filling, sql.Identifier(self._names.bare)))


def _grants(connection: Connection, old: int, table: sql.Identifier) -> list[sql.Composed]:
    """What the old table's other users may do, as statements about the new one."""
    rows = connection.execute(
        "SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type, is_grantable"
        " FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = %s::oid AND grantee <> relowner",
        [old],
    ).fetchall()
    return [
        sql.SQL("GRANT {right} ON {table} TO {user}{further}").format(
            right=sql.SQL(right),
            table=table,
            user=sql.SQL("PUBLIC") if user is None else sql.Identifier(user),
            further=sql.SQL(" WITH GRANT OPTION" if grantable else ""),
        )
        for user, right, grantable in rows
    ]


def _check_text(passage: Passage, place: str) -> None:
    """RetrievalError for what PostgreSQL's text cannot hold."""
    whole = passage.id + passage.title + passage.text
    if "\0" in whole or any("\ud800" <= character <= "\udfff" for character in whole):
        raise RetrievalError(
            f"{place}: passage {passage.id!r} holds a NUL or half a surrogate pair, which PostgreSQL's text"
            " has not: take it out of the corpus"
        )
