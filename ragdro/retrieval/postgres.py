"""Passages in a table of PostgreSQL: full text, vectors by pgvector, or both, fused.

    full text   ts_rank(document, t1 | t2 | ...) over the passages that have one of the question's lexemes:
                all of them at once (`&`) is what hardly a passage has for a whole question
    vectors     the cosine, or the inner product, of question and passage

Equal scores stand in the order of the ids, byte by byte. Names of tables and columns are quoted by psycopg,
values are sent apart from the statements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from psycopg import sql

from ragdro.config.stores import GraphIndex, PostgresSettings
from ragdro.retrieval.database import DatabaseRetriever, Ranking, source_of
from ragdro.retrieval.postgres_session import Connection, PostgresSession
from ragdro.retrieval.postgres_table import (
    TableNames,
    as_ids,
    as_text,
    check_table,
    column_types,
    read_manifest,
    vector_width,
)
from ragdro.retrieval.store import PassageStore
from ragdro.types import Candidates, Passage, Question

PAGE = 1_000
"""Passages read at once where all are."""

_LEXEMES = sql.SQL(
    "SELECT string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''', ' | ')::tsquery"
    " AS ragdro_query"
    " FROM unnest(tsvector_to_array(to_tsvector(%(language)s::regconfig, %(question)s))) AS lexeme"
)
"""Any of the question's lexemes, each quoted as a tsquery's text has them."""


class PostgresRetriever(DatabaseRetriever[PostgresSettings]):
    """The passages of a table."""

    def __init__(self, settings: PostgresSettings, *, show_progress: bool = False) -> None:
        super().__init__(settings, show_progress=show_progress)
        self.embeddings = {}
        if settings.vectors is not None:
            from ragdro.retrieval.embedding import Embedding

            self.embeddings = {"vectors": Embedding(settings.vectors)}
        self._session = PostgresSession(settings, self._prepare)
        self._names = TableNames(settings)
        self.place = f"{self._session.place}, table {settings.table}"
        self._known: dict[str, Any] | None = None

    def written(self) -> dict[str, Any]:
        settings, vectors = self.settings, None
        if settings.vectors is not None:
            from ragdro.retrieval.embedding import written_by

            index = settings.vectors.index.model_dump(exclude={"ef_search"})
            vectors = {**settings.vectors.model_dump(include={"column", "distance"}), "index": index}
            vectors |= written_by(settings.vectors)
        full_text = settings.full_text
        return {
            "columns": settings.columns.model_dump(),
            "full_text": None if full_text is None else full_text.model_dump(include={"language", "column"}),
            "vectors": vectors,
        }

    def manifest(self) -> dict[str, Any] | None:
        if self._known is None:
            self._known = self._session.run(lambda connection: read_manifest(connection, self._names))
        return self._known

    def check(self) -> int:
        passages = self._session.run(
            lambda connection: check_table(connection, self.settings, self._names, self.place)
        )
        self.check_manifest(passages)
        return passages

    def passages(self) -> Iterator[Passage]:
        rows = self._after(None, PAGE)
        while rows:
            yield from map(_passage, rows)
            rows = self._after(rows[-1][-1], PAGE)

    def _after(self, last: Any, count: int) -> list[tuple[Any, ...]]:
        """The `count` rows after the id `last` (None: the first), in the order of ids, which stand last."""
        statement = sql.SQL("SELECT {parts}, {id} FROM {table} {where} ORDER BY {id} LIMIT %(count)s").format(
            parts=self._names.parts,
            id=self._names.id,
            table=self._names.table,
            where=sql.SQL("" if last is None else "WHERE {} > %(last)s").format(self._names.id),
        )
        return self._rows(statement, {"last": last, "count": count})

    def _check_widths(self) -> None:
        if "vectors" in self.embeddings and self.settings.vectors is not None:
            from ragdro.retrieval.embedding import check_width

            column = self.settings.vectors.column
            width = self._session.run(lambda connection: vector_width(connection, self._names, column))
            check_width(
                self.embeddings["vectors"], width, "retriever.vectors", f"{self.place}, column {column}"
            )

    def _with_ids(self, ids: Sequence[str]) -> list[Passage]:
        asked = as_ids(ids, self._types[self.settings.columns.id])
        statement = sql.SQL("SELECT {parts} FROM {table} WHERE {id} = ANY(%(ids)s)").format(
            parts=self._names.parts, table=self._names.table, id=self._names.id
        )
        return [_passage(row) for row in self._rows(statement, {"ids": asked})] if asked else []

    @cached_property
    def _types(self) -> dict[str, str]:
        return self._session.run(lambda connection: column_types(connection, self._names.table))

    def _first(self, count: int) -> list[Passage]:
        return [_passage(row) for row in self._after(None, count)]

    def _rankings(self, questions: Sequence[Question], top_n: int) -> list[Ranking]:
        full_text, vectors = self.settings.full_text, self.settings.vectors
        depth = self._depth(top_n, (full_text is not None) + (vectors is not None))
        rankings = []
        if full_text is not None:
            statement = self._by_words()
            values = [
                {"question": q.question.replace("\0", " "), "language": full_text.language} for q in questions
            ]
            hits = self._hits(questions, statement, values, depth)
            rankings.append(Ranking(full_text.weight, hits))
        if vectors is not None:
            asked = self.embeddings["vectors"].of_questions([question.question for question in questions])
            values = [{"vector": as_text(vector)} for vector in asked]
            hits = self._hits(questions, self._by_vectors(), values, depth)
            rankings.append(Ranking(vectors.weight, hits))
        return rankings

    def _by_words(self) -> sql.Composed:
        settings = self.settings.full_text
        assert settings is not None
        return sql.SQL(
            "WITH ragdro_asked AS ({lexemes})"
            " SELECT {parts}, {rank}({document}, ragdro_query, {normalisation}) AS ragdro_score"
            " FROM {table}, ragdro_asked WHERE {document} @@ ragdro_query"
            " ORDER BY ragdro_score DESC, {id} LIMIT %(depth)s"
        ).format(
            lexemes=_LEXEMES,
            parts=self._names.parts,
            rank=sql.SQL(settings.rank),
            document=self._names.document(settings),
            normalisation=sql.Literal(settings.normalisation),
            table=self._names.table,
            id=self._names.id_text,
        )

    def _by_vectors(self) -> sql.Composed:
        settings = self.settings.vectors
        assert settings is not None
        operator, score = {"cosine": ("<=>", "1 - {d}"), "inner_product": ("<#>", "-{d}")}[settings.distance]
        distance = sql.SQL("({column} {operator} %(vector)s)").format(
            column=sql.Identifier(settings.column), operator=sql.SQL(operator)
        )
        # No index is of a sum: every vector is compared.
        order = distance if isinstance(settings.index, GraphIndex) else sql.SQL("{} + 0").format(distance)
        return sql.SQL(
            "SELECT {parts}, {score} AS ragdro_score FROM {table} WHERE {column} IS NOT NULL"
            " ORDER BY {order}, {id} LIMIT %(depth)s"
        ).format(
            parts=self._names.parts,
            score=sql.SQL(score).format(d=distance),
            table=self._names.table,
            column=sql.Identifier(settings.column),
            order=order,
            id=self._names.id_text,
        )

    def _hits(
        self,
        questions: Sequence[Question],
        statement: sql.Composed,
        values: Sequence[dict[str, Any]],
        depth: int,
    ) -> list[Candidates]:
        return [
            _candidates(question.id, self._rows(statement, {**of_question, "depth": depth}))
            for question, of_question in zip(questions, values, strict=True)
        ]

    def _rows(self, statement: sql.Composed, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        return self._session.run(lambda connection: connection.execute(statement, values).fetchall())

    def _prepare(self, connection: Connection) -> None:
        """What holds for all searches on a connection: how vectors are looked for."""
        if self.settings.vectors is not None and isinstance(self.settings.vectors.index, GraphIndex):
            width = self.settings.vectors.index.ef_search
            connection.execute(f"SET hnsw.ef_search = {width}")
            connection.execute("SET hnsw.iterative_scan = strict_order")

    def _fill(self, store: PassageStore, manifest: dict[str, Any]) -> None:
        from ragdro.retrieval.postgres_fill import fill_table

        fill_table(
            self.settings, store, manifest, self.embeddings.get("vectors"), show_progress=self.show_progress
        )
        self._known = None


def _candidates(question_id: str, rows: Sequence[tuple[Any, ...]]) -> Candidates:
    """The passages with a score; a vector of zeros has none."""
    scored = [row for row in rows if not math.isnan(row[-1])]
    return Candidates(
        question_id, tuple(_passage(row) for row in scored), tuple(float(row[-1]) for row in scored)
    )


def _passage(row: Sequence[Any]) -> Passage:
    passage_id, title, text, source = row[:4]
    return Passage(passage_id, title, text, source=source_of(source, text))
