"""What a table of passages looks like: its names, quoted, and whether it has what the settings name."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from jaxtyping import Float32
from psycopg import sql

from ragdro.config.stores import FullText, PostgresSettings
from ragdro.errors import RetrievalError
from ragdro.retrieval.postgres_session import Connection

_INTEGER, _UUID = re.compile("0|[1-9][0-9]{0,17}"), re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_MARK = "ragdro index: "
"""What a comment begins with on a table that `ragdro index` filled; its manifest follows."""


class TableNames:
    """Names of the settings as parts of statements."""

    def __init__(self, settings: PostgresSettings) -> None:
        *schema, self.bare = settings.table.split(".")
        self.schema = schema[0] if schema else None
        self.columns = settings.columns
        self.table = self.beside("")
        self.id = sql.Identifier(settings.columns.id)
        self.id_text = sql.SQL('{}::text COLLATE "C"').format(self.id)

    def beside(self, suffix: str) -> sql.Identifier:
        """A table of the same schema, its name with a suffix."""
        parts = [self.bare + suffix] if self.schema is None else [self.schema, self.bare + suffix]
        return sql.Identifier(*parts)

    @property
    def parts(self) -> sql.Composed:
        """id, title, text and source, in this order, under names that hide no column."""
        columns = self.columns
        source = sql.SQL("NULL") if columns.source is None else sql.Identifier(columns.source)
        return sql.SQL(
            "{id}::text AS ragdro_id, {title} AS ragdro_title, {text} AS ragdro_text,"
            " {source} AS ragdro_source"
        ).format(
            id=self.id,
            title=self._text(columns.title),
            text=self._text(columns.text),
            source=source,
        )

    def document(self, settings: FullText) -> sql.Composable:
        """What is searched for words: the tsvector column, or what is made of title and text."""
        if settings.column is not None:
            return sql.Identifier(settings.column)
        return self.words(settings.language)

    def words(self, language: str) -> sql.Composed:
        """The tsvector of a passage's title and text."""
        return sql.SQL("to_tsvector({language}::regconfig, {title} || ' ' || {text})").format(
            language=sql.Literal(language),
            title=self._text(self.columns.title),
            text=self._text(self.columns.text),
        )

    @staticmethod
    def _text(column: str | None) -> sql.Composable:
        if column is None:
            return sql.SQL("''")
        return sql.SQL("coalesce({}::text, '')").format(sql.Identifier(column))


def oid_of(connection: Connection, table: sql.Identifier) -> int | None:
    """The table's number in the catalogue; None where there is no such table, or no right to its schema."""
    row = connection.execute("SELECT to_regclass(%s)::oid", [table.as_string(connection)]).fetchone()
    return row[0] if row else None


def read_manifest(connection: Connection, names: TableNames, suffix: str = "") -> dict[str, Any] | None:
    """The manifest of the table (or of one beside it); None where there is none."""
    oid = oid_of(connection, names.beside(suffix))
    row = connection.execute("SELECT obj_description(%s::oid, 'pg_class')", [oid]).fetchone()
    if row is None or row[0] is None or not row[0].startswith(_MARK):
        return None
    manifest: dict[str, Any] = json.loads(row[0].removeprefix(_MARK))
    return manifest


def write_manifest(connection: Connection, table: sql.Identifier, manifest: dict[str, Any]) -> None:
    """Make the manifest the table's comment."""
    text = _MARK + json.dumps(manifest, sort_keys=True)
    connection.execute(
        sql.SQL("COMMENT ON TABLE {table} IS {text}").format(table=table, text=sql.Literal(text))
    )


def column_types(connection: Connection, table: sql.Identifier) -> dict[str, str]:
    """The table's columns with their types, as SQL writes them: `vector(384)`."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [oid_of(connection, table)],
    )
    return dict(rows.fetchall())


def check_table(connection: Connection, settings: PostgresSettings, names: TableNames, place: str) -> int:
    """How many passages the table has; RetrievalError names the key of what it lacks."""
    if oid_of(connection, names.table) is None:
        fill = f"ragdro index --kind postgres --set table={settings.table} --corpus ... makes and fills it"
        raise RetrievalError(f"{place}: retriever.table: there is no such table: {fill}")
    types = column_types(connection, names.table)
    for key, name in _named(settings).items():
        if name is not None and name not in types:
            raise RetrievalError(
                f"{place}: retriever.{key}: there is no column {name!r}; there are {', '.join(types)}"
                + _without(key)
            )
    full_text, vectors = settings.full_text, settings.vectors
    if full_text is not None:
        check_language(connection, full_text.language, place)
        if full_text.column is not None and types[full_text.column] != "tsvector":
            raise RetrievalError(
                f"{place}: retriever.full_text.column: {full_text.column!r} is of type"
                f" {types[full_text.column]}, not tsvector{_without('full_text.column')}"
            )
    if vectors is not None and not types[vectors.column].split(".")[-1].startswith(("vector", "halfvec")):
        raise RetrievalError(
            f"{place}: retriever.vectors.column: {vectors.column!r} is of type {types[vectors.column]}, not"
            " vector or halfvec (pgvector)"
        )
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(names.table)).fetchone()
    if row is None or row[0] == 0:
        raise RetrievalError(f"{place}: retriever.table: the table is empty")
    return int(row[0])


def _named(settings: PostgresSettings) -> dict[str, str | None]:
    named = {f"columns.{part}": name for part, name in settings.columns.model_dump().items()}
    if settings.full_text is not None:
        named["full_text.column"] = settings.full_text.column
    if settings.vectors is not None:
        named["vectors.column"] = settings.vectors.column
    return named


def _without(key: str) -> str:
    """What to write where the table has no such thing."""
    if key == "full_text.column":
        return "; null: words are made of title and text at each search (slow in a large table)"
    return "; null where there is none" if key in ("columns.title", "columns.source") else ""


def as_ids(ids: Sequence[str], kind: str) -> list[Any]:
    """Those of the ids that a column of this type can hold, as its values: so that its index serves."""
    if kind in ("smallint", "integer", "bigint"):
        return [int(name) for name in ids if _INTEGER.fullmatch(name)]
    if kind == "uuid":
        return [UUID(name) for name in ids if _UUID.fullmatch(name)]
    return [name for name in ids if "\0" not in name]


def as_text(vector: Float32[np.ndarray, " width"]) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(map(repr, vector.tolist())) + "]"


def check_language(connection: Connection, language: str, place: str) -> None:
    """RetrievalError for a text search configuration that the server does not have."""
    known = [row[0] for row in connection.execute("SELECT cfgname FROM pg_ts_config ORDER BY 1").fetchall()]
    if language.rpartition(".")[2] not in known:
        raise RetrievalError(
            f"{place}: retriever.full_text.language: no {language!r}; there are {', '.join(known)}"
        )


def vector_width(connection: Connection, names: TableNames, column: str) -> int:
    """How many numbers the vectors of a column have: by its type, or else by one of them."""
    kind = column_types(connection, names.table)[column]
    if "(" in kind:
        return int(kind[kind.index("(") + 1 : -1])
    name = sql.Identifier(column)
    statement = sql.SQL("SELECT vector_dims({column}) FROM {table} WHERE {column} IS NOT NULL LIMIT 1")
    row = connection.execute(statement.format(column=name, table=names.table)).fetchone()
    return int(row[0]) if row else 0
